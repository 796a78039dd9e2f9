// Prints random consumer groups and how the assignors of Apache Kafka's Java client share partitions among them: the
// vectors in groups.txt. Run once by hand:
//
//   javac -cp kafka-clients-4.4.0.jar Assignments.java
//   java -cp kafka-clients-4.4.0.jar:slf4j-api.jar:. Assignments 1000 > groups.txt
//
// Lines: "group"; "topic NAME PARTITIONS RACKS-OF-PARTITION;.."; "member ID INSTANCE RACK TOPICS GENERATION OWNED USER-DATA";
// "range", "roundrobin" and "sticky" with the share of each member, in order. "-" stands for nothing.

import java.nio.ByteBuffer;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.*;
import org.apache.kafka.clients.consumer.internals.AbstractPartitionAssignor;
import org.apache.kafka.common.*;

public class Assignments {
    static final Random RANDOM = new Random(4711);
    static final String[] RACKS = {"a", "b", "c"};

    record Member(String id, String instance, String rack, List<String> topics) {}

    record Claim(List<TopicPartition> owned, int generation) {}

    public static void main(String[] args) {
        int count = Integer.parseInt(args[0]);
        for (int left = count; left > 0;) {
            StringBuilder lines = new StringBuilder();
            try {
                group(lines);
            } catch (NullPointerException e) {
                // Java's sticky assignor fails where a member has what nobody reads any more.
                continue;
            }
            System.out.print(lines);
            left--;
        }
    }

    static int below(int n) {
        return RANDOM.nextInt(n);
    }

    static void group(StringBuilder out) {
        boolean racks = below(3) == 0, alike = below(2) == 0, same = below(3) == 0;
        Map<String, List<PartitionInfo>> topics = new TreeMap<>();
        int partitions = below(9);
        for (int t = 0; t <= below(4); t++) {
            topics.put("t" + t, partitions("t" + t, same ? partitions : below(9), racks));
        }
        List<String> names = new ArrayList<>(topics.keySet());
        List<Member> members = new ArrayList<>();
        for (int m = 0, size = 1 + below(6); m < size; m++) {
            List<String> reads = names.stream().filter(name -> alike || below(3) > 0).toList();
            String instance = below(8) == 0 ? "i" + (9 - m) : null;
            String rack = racks && below(6) > 0 ? RACKS[below(3)] : null;
            members.add(new Member("m" + (m * 7 % 10), instance, rack, reads));
        }
        Map<String, Claim> claims = claims(members, topics);
        print(out, topics, members, claims);
    }

    static List<PartitionInfo> partitions(String topic, int count, boolean racks) {
        List<PartitionInfo> all = new ArrayList<>();
        int replicas = 1 + below(3);
        for (int p = 0; p < count; p++) {
            Node[] nodes = new Node[replicas];
            int first = below(3);
            for (int r = 0; r < replicas; r++) {
                int at = (first + r) % 3;
                nodes[r] = new Node(at, "host" + at, 9092, racks ? RACKS[at] : null);
            }
            all.add(new PartitionInfo(topic, p, nodes[0], nodes, nodes));
        }
        return all;
    }

    /** What members have from an earlier generation, in which others were there, and other partitions. */
    static Map<String, Claim> claims(List<Member> members, Map<String, List<PartitionInfo>> topics) {
        Map<String, Claim> claims = new HashMap<>();
        if (below(4) == 0) {
            return claims;
        }
        List<Member> before = new ArrayList<>(members.stream().filter(m -> below(4) > 0).toList());
        if (below(2) == 0) {
            before.add(new Member("gone", null, null, new ArrayList<>(topics.keySet())));
        }
        if (before.isEmpty()) {
            return claims;
        }
        Map<String, List<PartitionInfo>> earlier = new TreeMap<>();
        topics.forEach((name, all) -> earlier.put(name, all.subList(0, below(3) == 0 ? all.size() / 2 : all.size())));
        int generation = 1 + below(9);
        assign(new StickyAssignor(), earlier, before, claims).forEach((id, share) ->
            claims.put(id, new Claim(share, generation)));
        // A member that missed a rebalance.
        if (below(5) == 0 && members.size() > 1) {
            Member from = members.get(0), to = members.get(1);
            Claim claim = claims.get(from.id());
            if (claim != null) {
                claims.put(to.id(), new Claim(claim.owned(), generation - below(2)));
            }
        }
        return claims;
    }

    static Map<String, List<TopicPartition>> assign(
            AbstractPartitionAssignor assignor, Map<String, List<PartitionInfo>> topics, List<Member> members,
            Map<String, Claim> claims) {
        Map<String, Subscription> subscriptions = new TreeMap<>();
        for (Member m : members) {
            Claim claim = claims.getOrDefault(m.id(), new Claim(List.of(), -1));
            Subscription said = new Subscription(m.topics(), userData(claims.get(m.id())), claim.owned(),
                claim.generation(), Optional.ofNullable(m.rack()));
            said.setGroupInstanceId(Optional.ofNullable(m.instance()));
            subscriptions.put(m.id(), said);
        }
        Map<String, List<PartitionInfo>> read = new TreeMap<>(topics);
        read.keySet().retainAll(members.stream().flatMap(m -> m.topics().stream()).collect(Collectors.toSet()));
        return assignor.assignPartitions(read, subscriptions);
    }

    /** What a member of the sticky assignor says about itself. */
    static ByteBuffer userData(Claim claim) {
        StickyAssignor sticky = new StickyAssignor();
        if (claim != null) {
            sticky.onAssignment(new Assignment(claim.owned()),
                new ConsumerGroupMetadata("g", claim.generation(), "m", Optional.empty()));
        }
        return sticky.subscriptionUserData(Set.of());
    }

    static void print(
            StringBuilder out, Map<String, List<PartitionInfo>> topics, List<Member> members,
            Map<String, Claim> claims) {
        out.append("group\n");
        topics.forEach((name, all) -> out.append("topic " + name + " " + all.size() + " " + or(all.stream().map(p ->
            or(Arrays.stream(p.replicas()).filter(n -> n.hasRack()).map(Node::rack).collect(Collectors.joining())))
            .collect(Collectors.joining(";"))) + "\n"));
        for (Member m : members) {
            Claim claim = claims.get(m.id());
            ByteBuffer data = userData(claim);
            String hex = data == null ? "" : HexFormat.of().formatHex(data.array(), 0, data.limit());
            out.append(String.join(" ", "member", m.id(), or(m.instance()), or(m.rack()),
                or(String.join(",", m.topics())), claim == null ? "-" : "" + claim.generation(),
                claim == null ? "-" : list(claim.owned()), or(hex)) + "\n");
        }
        shares(out, "range", assign(new RangeAssignor(), topics, members, claims), members);
        shares(out, "roundrobin", assign(new RoundRobinAssignor(), topics, members, claims), members);
        shares(out, "sticky", assign(new StickyAssignor(), topics, members, claims), members);
    }

    static void shares(
            StringBuilder out, String assignor, Map<String, List<TopicPartition>> shares, List<Member> members) {
        out.append(assignor + " "
            + members.stream().map(m -> list(shares.get(m.id()))).collect(Collectors.joining(" ")) + "\n");
    }

    static String list(List<TopicPartition> partitions) {
        return or(partitions.stream().sorted(Comparator.comparing(TopicPartition::topic)
            .thenComparing(TopicPartition::partition)).map(p -> p.topic() + ":" + p.partition())
            .collect(Collectors.joining(",")));
    }

    static String or(String text) {
        return text == null || text.isEmpty() ? "-" : text;
    }
}
