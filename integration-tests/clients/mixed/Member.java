import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a group that says what it receives, until its standard input ends: Member TOPIC KEY=VALUE... */
public final class Member {
    public static void main(String[] words) {
        Properties properties = new Properties();
        for (String word : List.of(words).subList(1, words.length)) {
            String[] pair = word.split("=", 2);
            properties.setProperty(pair[0], pair[1]);
        }
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, bytes, bytes)) {
            Thread watch = new Thread(() -> {
                try {
                    while (System.in.read() >= 0) {}
                } catch (java.io.IOException ended) {
                    // As if it had ended.
                }
                consumer.wakeup();
            });
            watch.setDaemon(true);
            watch.start();
            consumer.subscribe(List.of(words[0]));
            while (true) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    System.out.println(record.partition() + " " + record.offset());
                }
            }
        } catch (WakeupException end) {
            // The group was left by the close.
        }
    }
}
