// Kafka's Java client, with the command line and the JSON line of the other peers: produce and consume.
//
// Half of the records go through before anything is measured, so that its compiler is mostly done. Acknowledgements are told by
// callbacks, the cheapest way that it has. The values are made as workload/src/values.rs makes them, and folded in the same way.
import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.lang.management.ManagementFactory;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class PeerJava {
    static final VarHandle WORDS_OF = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    static final String[] FIELDS = {"user", "event", "region", "status", "device", "tier", "method", "source", "target", "kind",
        "stage", "reason"};
    static final String[] WORDS = {"checkout", "payment", "inventory", "session", "eu-west-1", "us-east-2", "ap-south-1", "created",
        "updated", "deleted", "failed", "pending", "mobile", "desktop", "premium", "standard", "GET", "POST", "timeout", "retry",
        "cart", "search", "profile", "gateway"};
    static final Map<String, String> given = new HashMap<>();
    static long random = 0x9E3779B97F4A7C15L;

    static RuntimeException fail(Object why) {
        System.out.println("{\"error\":\"" + String.valueOf(why).replace('"', '\'').replace('\n', ' ') + "\"}");
        System.out.flush();
        Runtime.getRuntime().halt(1);
        return new IllegalStateException();
    }

    static String text(String name, String otherwise) {
        String value = given.remove(name);
        return value == null ? otherwise : value;
    }

    static int number(String name, int otherwise) {
        return Integer.parseInt(text(name, String.valueOf(otherwise)));
    }

    static long below(long limit) {
        random ^= random >>> 12;
        random ^= random << 25;
        random ^= random >>> 27;
        return (random * 0x2545F4914F6CDD1DL >>> 16) % limit;
    }

    static byte[][] values(int size, int records) {
        int count = Math.min(Math.min(Math.max((8 << 20) / Math.max(size, 1), 4096), 100_000), Math.max(records, 1));
        byte[][] made = new byte[count][];
        for (int number = 0; number < count; number++) {
            StringBuilder text = new StringBuilder();
            text.append("{\"id\":").append(below(1L << 44)).append(",\"ts\":").append(1_760_000_000_000L + number * 7L);
            while (text.length() < size) {
                String field = FIELDS[(int) below(FIELDS.length)];
                if (below(4) == 0) {
                    text.append(String.format(",\"%s_id\":\"%08x\"", field, below(1L << 32)));
                } else {
                    text.append(",\"").append(field).append("\":\"").append(WORDS[(int) below(WORDS.length)]).append('"');
                }
            }
            text.setLength(size);
            text.setCharAt(size - 1, '}');
            made[number] = text.toString().getBytes(StandardCharsets.ISO_8859_1);
        }
        return made;
    }

    static long fold(byte[] value) {
        long sum = 0;
        int at = 0;
        for (; at + 8 <= value.length; at += 8) sum ^= (long) WORDS_OF.get(value, at);
        for (int place = 0; at < value.length; at++, place += 8) sum ^= (value[at] & 255L) << place;
        return sum;
    }

    /** Processor time of all threads: the application's, the client's, the compiler's and the collector's. */
    static final class Meter {
        static final com.sun.management.OperatingSystemMXBean SYSTEM =
            (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        final long cpu = SYSTEM.getProcessCpuTime();
        final long start = System.nanoTime();

        void report(long records, long failed, String more) throws IOException {
            double seconds = (System.nanoTime() - start) / 1e9;
            double us = (SYSTEM.getProcessCpuTime() - cpu) / 1e3;
            String peak = Files.readAllLines(Path.of("/proc/self/status")).stream().filter(line -> line.startsWith("VmHWM"))
                .findFirst().map(line -> line.replaceAll("\\D", "")).orElse("0");
            System.out.println(String.format(Locale.ROOT, "{\"records\":%d,\"failed\":%d,\"seconds\":%.6f,\"records_per_s\":%.1f,"
                + "\"cpu_us_per_record\":%.6f,\"peak_kb\":%s%s}", records, failed, seconds, records / seconds, us / Math.max(records, 1),
                peak, more));
            System.out.flush();
            Runtime.getRuntime().halt(0);
        }
    }

    /** Sends so many records and waits for their acknowledgements; says how many failed. */
    static long send(KafkaProducer<byte[], byte[]> producer, String topic, byte[][] values, long records, long window) {
        // Only the client's own thread counts.
        AtomicLong settled = new AtomicLong(), failed = new AtomicLong();
        Callback settle = (metadata, problem) -> {
            if (problem != null) failed.lazySet(failed.getPlain() + 1);
            settled.lazySet(settled.getPlain() + 1);
        };
        for (long number = 0; number < records; number++) {
            if ((number & 1023) == 0) while (number - settled.get() >= window) LockSupport.parkNanos(300_000);
            producer.send(new ProducerRecord<>(topic, values[(int) (number % values.length)]), settle);
        }
        while (settled.get() < records) LockSupport.parkNanos(200_000);
        return failed.get();
    }

    static void produce(Map<String, Object> config, String topic, byte[][] values, int records, int window) throws IOException {
        var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
        send(producer, topic, values, records / 2, window);
        Meter meter = new Meter();
        meter.report(records, send(producer, topic, values, records, window), "");
    }

    /** How many records were read, their folds together, and when the first of them came. */
    static long[] read(Map<String, Object> config, String topic, int partitions, long records) {
        var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) all.add(new TopicPartition(topic, partition));
        consumer.assign(all);
        consumer.seekToBeginning(all);
        long[] seen = {0, 0, 0};
        while (seen[0] < records) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                if (seen[0]++ == 0) seen[2] = System.nanoTime();
                seen[1] ^= fold(record.value());
            }
        }
        consumer.close();
        return seen;
    }

    static void consume(Map<String, Object> config, String topic, int partitions, int records) throws IOException {
        read(config, topic, partitions, records / 2);
        Meter meter = new Meter();
        long[] seen = read(config, topic, partitions, records);
        double rate = seen[0] / ((System.nanoTime() - seen[2]) / 1e9);
        meter.report(seen[0], 0, String.format(Locale.ROOT, ",\"stream_per_s\":%.1f,\"checksum\":\"%016x\"", rate, seen[1]));
    }

    public static void main(String[] arguments) {
        try {
            if (arguments.length % 2 == 0) throw fail("usage: peer-java produce|consume [--name value]..");
            for (int at = 1; at < arguments.length; at += 2) given.put(arguments[at].replaceFirst("^--", ""), arguments[at + 1]);
            Map<String, Object> config = new HashMap<>();
            config.put("bootstrap.servers", text("brokers", "127.0.0.1:9092"));
            String topic = text("topic", "bench"), compression = text("compression", "none");
            int records = number("records", 1_000_000), partitions = number("partitions", 6), size = number("size", 100);
            int window = number("window", 100_000), workers = number("workers", 2);
            if (number("tasks", 1) != 1 || workers < 1) throw fail("one task produces");
            boolean produces = arguments[0].equals("produce");
            if (!produces && !arguments[0].equals("consume")) throw fail("unknown mode " + arguments[0]);
            int linger = number("linger-ms", 5), batch = number("batch-bytes", 131_072), inFlight = number("in-flight", 5);
            boolean equal = text("settings", "equal").equals("equal");
            if (!given.isEmpty()) throw fail("unknown option --" + given.keySet().iterator().next());
            if (produces) {
                config.put("compression.type", compression);
                if (equal) {
                    config.putAll(Map.of("acks", "all", "enable.idempotence", true, "linger.ms", linger, "batch.size", batch,
                        "max.in.flight.requests.per.connection", inFlight));
                }
                produce(config, topic, values(size, records), records, window);
            } else {
                config.putAll(Map.of("auto.offset.reset", "earliest", "enable.auto.commit", false));
                if (equal) config.put("max.poll.records", 10_000);
                consume(config, topic, partitions, records);
            }
        } catch (Exception problem) {
            throw fail(problem);
        }
    }
}
