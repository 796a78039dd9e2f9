// Prints where Kafka's Java client puts 10,000 keys: java -cp 'JARS/*' Placements.java
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

class Placements {
    static final int PARTITIONS = 61;
    static final String DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    static long state = 1;

    static long next() {
        state = state * 6364136223846793005L + 1442695040888963407L;
        return state;
    }

    public static void main(String[] args) {
        StringBuilder line = new StringBuilder("java ");
        for (int i = 0; i < 10_000; i++) {
            byte[] key = new byte[1 + (int) ((next() >>> 33) % 40)];
            for (int at = 0; at < key.length; at++) {
                key[at] = (byte) (next() >>> 56);
            }
            line.append(DIGITS.charAt(BuiltInPartitioner.partitionForKey(key, PARTITIONS)));
        }
        System.out.println(line);
    }
}
