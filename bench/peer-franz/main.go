// franz-go, with the command line and the JSON line of the other peers: produce and consume.
//
// Its records are acknowledged by callbacks, the cheapest way that it has. The values are made as workload/src/values.rs
// makes them, and folded in the same way.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type settings struct {
	brokers, topic, compression                                string
	records                                                    uint64
	partitions, size, window, linger, batch, inFlight, workers int
	equal                                                      bool
}

func fail(why any) {
	line, _ := json.Marshal(map[string]string{"error": fmt.Sprint(why)})
	fmt.Println(string(line))
	os.Exit(1)
}

// Takes pairs of --name value; what is left over was misspelt.
func parse(arguments []string) settings {
	given := map[string]string{}
	for i := 0; i+1 < len(arguments); i += 2 {
		given[strings.TrimPrefix(arguments[i], "--")] = arguments[i+1]
	}
	text := func(name, otherwise string) string {
		if value, ok := given[name]; ok {
			delete(given, name)
			return value
		}
		return otherwise
	}
	number := func(name string, otherwise int) int {
		value, err := strconv.Atoi(text(name, strconv.Itoa(otherwise)))
		if err != nil {
			fail(err)
		}
		return value
	}
	s := settings{
		brokers: text("brokers", "127.0.0.1:9092"), topic: text("topic", "bench"), compression: text("compression", "none"),
		records: uint64(number("records", 1_000_000)), partitions: number("partitions", 6), size: number("size", 100),
		window: number("window", 100_000), linger: number("linger-ms", 5), batch: number("batch-bytes", 131_072),
		inFlight: number("in-flight", 5), workers: number("workers", 2), equal: text("settings", "equal") == "equal",
	}
	if number("tasks", 1) != 1 {
		fail("one task produces")
	}
	for name := range given {
		fail("unknown option --" + name)
	}
	return s
}

var fields = []string{"user", "event", "region", "status", "device", "tier", "method", "source", "target", "kind", "stage", "reason"}
var words = []string{"checkout", "payment", "inventory", "session", "eu-west-1", "us-east-2", "ap-south-1", "created", "updated",
	"deleted", "failed", "pending", "mobile", "desktop", "premium", "standard", "GET", "POST", "timeout", "retry", "cart", "search",
	"profile", "gateway"}

func values(size int, records uint64) [][]byte {
	random := uint64(0x9E3779B97F4A7C15)
	below := func(limit uint64) uint64 {
		random ^= random >> 12
		random ^= random << 25
		random ^= random >> 27
		return random * 0x2545F4914F6CDD1D >> 16 % limit
	}
	count := min(min(max((8<<20)/max(size, 1), 4096), 100_000), int(max(records, 1)))
	made := make([][]byte, count)
	for number := range made {
		text := fmt.Appendf(nil, "{\"id\":%d,\"ts\":%d", below(1<<44), 1_760_000_000_000+number*7)
		for len(text) < size {
			field := fields[below(uint64(len(fields)))]
			if below(4) == 0 {
				text = fmt.Appendf(text, ",\"%s_id\":\"%08x\"", field, below(1<<32))
			} else {
				text = fmt.Appendf(text, ",\"%s\":\"%s\"", field, words[below(uint64(len(words)))])
			}
		}
		text = text[:size:size]
		text[size-1] = '}'
		made[number] = text
	}
	return made
}

func fold(value []byte) (sum uint64) {
	for ; len(value) >= 8; value = value[8:] {
		sum ^= binary.LittleEndian.Uint64(value)
	}
	for place, one := range value {
		sum ^= uint64(one) << (8 * place)
	}
	return sum
}

func processorUs() int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fail(err)
	}
	return (used.Utime.Sec+used.Stime.Sec)*1_000_000 + used.Utime.Usec + used.Stime.Usec
}

func peakKb() (peak int64) {
	status, _ := os.ReadFile("/proc/self/status")
	if _, after, found := strings.Cut(string(status), "VmHWM:"); found {
		fmt.Sscan(after, &peak)
	}
	return peak
}

type meter struct {
	start time.Time
	us    int64
}

func begin() meter { return meter{time.Now(), processorUs()} }

func (m meter) report(records, failed uint64, more map[string]any) {
	seconds, used := time.Since(m.start).Seconds(), processorUs()-m.us
	line := map[string]any{"records": records, "failed": failed, "seconds": seconds, "records_per_s": float64(records) / seconds,
		"cpu_us_per_record": float64(used) / float64(max(records, 1)), "peak_kb": peakKb()}
	for name, value := range more {
		line[name] = value
	}
	told, err := json.Marshal(line)
	if err != nil {
		fail(err)
	}
	fmt.Println(string(told))
}

func client(more ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(more...)
	if err != nil {
		fail(err)
	}
	return made
}

func produce(s settings) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	codec, known := codecs[s.compression]
	if !known {
		fail("unknown compression " + s.compression)
	}
	options := []kgo.Opt{kgo.SeedBrokers(s.brokers), kgo.DefaultProduceTopic(s.topic), kgo.ProducerBatchCompression(codec),
		kgo.MaxBufferedRecords(s.window)}
	if s.equal {
		// Idempotent, it has at most five requests in flight; there is no setting.
		options = append(options, kgo.ProducerLinger(time.Duration(s.linger)*time.Millisecond), kgo.ProducerBatchMaxBytes(int32(s.batch)))
	}
	producer, made, ctx := client(options...), values(s.size, s.records), context.Background()
	if err := producer.ProduceSync(ctx, &kgo.Record{Value: made[0]}).FirstErr(); err != nil {
		fail(err)
	}
	var failed atomic.Uint64
	var unsettled sync.WaitGroup
	settle := func(_ *kgo.Record, err error) {
		if err != nil && failed.Add(1) == 1 {
			fmt.Fprintln(os.Stderr, err)
		}
		unsettled.Done()
	}
	m := begin()
	unsettled.Add(int(s.records - 1))
	for number := uint64(1); number < s.records; number++ {
		producer.Produce(ctx, &kgo.Record{Value: made[number%uint64(len(made))]}, settle)
	}
	unsettled.Wait()
	m.report(s.records-1, failed.Load(), nil)
}

func consume(s settings) {
	m := begin()
	from := map[int32]kgo.Offset{}
	for partition := range s.partitions {
		from[int32(partition)] = kgo.NewOffset().AtStart()
	}
	consumer := client(kgo.SeedBrokers(s.brokers), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: from}))
	var records, sum uint64
	var first time.Time
	for records < s.records {
		fetched := consumer.PollFetches(context.Background())
		if err := fetched.Err(); err != nil {
			fail(err)
		}
		fetched.EachRecord(func(record *kgo.Record) {
			if records == 0 {
				first = time.Now()
			}
			records++
			sum ^= fold(record.Value)
		})
	}
	rate := float64(records) / time.Since(first).Seconds()
	m.report(records, 0, map[string]any{"stream_per_s": rate, "checksum": fmt.Sprintf("%016x", sum)})
}

func main() {
	if len(os.Args)%2 != 0 {
		fail("usage: peer-franz produce|consume [--name value]..")
	}
	s := parse(os.Args[2:])
	runtime.GOMAXPROCS(s.workers)
	switch os.Args[1] {
	case "produce":
		produce(s)
	case "consume":
		consume(s)
	default:
		fail("unknown mode " + os.Args[1])
	}
}
