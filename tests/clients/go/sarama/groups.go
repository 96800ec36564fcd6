package main

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/IBM/sarama"

	. "highwater/tests/clients/go/scenario"
)

// member is one member of a group, consuming until it is told to leave.
type member struct {
	topic    string
	group    sarama.ConsumerGroup
	stop     context.CancelFunc
	finished chan struct{}

	lock    sync.Mutex
	owned   map[int32]bool
	revoked map[int32]bool
	values  map[string]bool
	offset  int64
	rounds  int
}

func join(bootstrap, group, topic string, changes ...change) *member {
	common := func(c *sarama.Config) {
		c.Consumer.Offsets.Initial = sarama.OffsetOldest
		c.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond
		c.Consumer.Group.Session.Timeout = 6 * time.Second
		c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
		c.Consumer.Return.Errors = false
	}
	opened, err := sarama.NewConsumerGroup([]string{bootstrap}, group, config(append([]change{common}, changes...)...))
	Must(err, "consumer group")
	ctx, stop := context.WithCancel(context.Background())
	m := &member{
		topic:    topic,
		group:    opened,
		stop:     stop,
		finished: make(chan struct{}),
		owned:    map[int32]bool{},
		revoked:  map[int32]bool{},
		values:   map[string]bool{},
		offset:   -1,
	}
	go func() {
		defer close(m.finished)
		for ctx.Err() == nil {
			if err := m.group.Consume(ctx, []string{topic}, m); err != nil {
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return m
}

// Setup and the next two are what the client calls.
func (m *member) Setup(sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.rounds++
	return nil
}

// Cleanup has nothing to do: each claim cleans up after itself.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim runs for as long as the member owns the partition.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.change(func() { m.owned[claim.Partition()] = true })
	defer m.change(func() {
		delete(m.owned, claim.Partition())
		m.revoked[claim.Partition()] = true
	})
	for {
		select {
		case each, open := <-claim.Messages():
			if !open {
				return nil
			}
			m.change(func() {
				m.values[string(each.Value)] = true
				if m.offset < 0 {
					m.offset = each.Offset
				}
			})
			session.MarkMessage(each, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *member) change(work func()) {
	m.lock.Lock()
	defer m.lock.Unlock()
	work()
}

func (m *member) partitions() (owned map[int32]bool) {
	m.change(func() { owned = maps.Clone(m.owned) })
	return owned
}

// givenUp is what the member ever had to give up.
func (m *member) givenUp() (revoked map[int32]bool) {
	m.change(func() { revoked = maps.Clone(m.revoked) })
	return revoked
}

// first is the first offset read, or -1.
func (m *member) first() (offset int64) {
	m.change(func() { offset = m.offset })
	return offset
}

func (m *member) sessions() (rounds int) {
	m.change(func() { rounds = m.rounds })
	return rounds
}

func (m *member) leave() {
	m.stop()
	Must(m.group.Close(), "close the member")
	<-m.finished
}

// seen counts the different values that the members have read.
func seen(members ...*member) int {
	all := map[string]bool{}
	for _, m := range members {
		m.change(func() { maps.Copy(all, m.values) })
	}
	return len(all)
}

// rebalance: one member owns all, a second takes half, and the first gets that back; nothing is missed.
func rebalance(bootstrap, name string, strategy func() sarama.BalanceStrategy, keeps bool) {
	topic, group := newTopic(bootstrap, name, 4, nil), Unique("group")
	// Strategies hold state, so each member has its own.
	with := func(c *sarama.Config) {
		c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy()}
	}
	mustProduce(bootstrap, numbers(topic, 0, 100, 4))
	first := join(bootstrap, group, topic, with)
	Eventually("the only member owns all", func() bool { return len(first.partitions()) == 4 })
	Eventually("the first 100 messages", func() bool { return seen(first) == 100 })
	second := join(bootstrap, group, topic, with)
	Eventually("two partitions each", func() bool {
		return len(first.partitions()) == 2 && len(second.partitions()) == 2
	})
	for partition := range first.partitions() {
		Check(!second.partitions()[partition], "both own partition %d", partition)
	}
	if keeps {
		Equal(first.givenUp(), second.partitions(), "what a cooperative member gave up")
	}
	mustProduce(bootstrap, numbers(topic, 100, 200, 4))
	Eventually("the second 100 messages", func() bool { return seen(first, second) == 200 })
	Check(seen(second) > 0, "the second member read nothing")
	second.leave()
	Eventually("the first member owns all again", func() bool { return len(first.partitions()) == 4 })
	mustProduce(bootstrap, numbers(topic, 200, 300, 4))
	Eventually("the third 100 messages", func() bool { return seen(first, second) == 300 })
	first.leave()
}

func groupRebalance(bootstrap string) {
	rebalance(bootstrap, "rebalance", sarama.NewBalanceStrategyRange, false)
}

func cooperativeSticky(bootstrap string) {
	rebalance(bootstrap, "cooperative", sarama.NewBalanceStrategyCooperativeSticky, true)
}

// staticMembership: a member with an instance id comes back within its session and nobody rebalances.
func staticMembership(bootstrap string) {
	topic, group := newTopic(bootstrap, "static", 4, nil), Unique("group")
	joinAs := func(id string) *member {
		return join(bootstrap, group, topic, func(c *sarama.Config) {
			c.Consumer.Group.InstanceId = id
			c.Consumer.Group.Session.Timeout = 20 * time.Second
		})
	}
	first, second := joinAs("one"), joinAs("two")
	Eventually("two partitions each", func() bool {
		return len(first.partitions()) == 2 && len(second.partitions()) == 2
	})
	owned, rounds := second.partitions(), first.sessions()
	second.leave()
	again := joinAs("two")
	Eventually("the same partitions again", func() bool {
		return fmt.Sprint(again.partitions()) == fmt.Sprint(owned)
	})
	time.Sleep(time.Second)
	Equal(first.sessions(), rounds, "sessions of the member that stayed")
	first.leave()
	again.leave()
}

// commitAt commits from outside the group.
func commitAt(bootstrap, group, topic string, partition int32, offset int64, metadata string) {
	admin := adminOf(bootstrap)
	defer admin.Close()
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{
		topic: {partition: {Offset: offset, Metadata: metadata}},
	}
	answer, err := admin.AlterConsumerGroupOffsets(group, offsets, nil)
	Must(err, "alter offsets")
	Equal(answer.Errors[topic][partition], sarama.ErrNoError, "alter offsets")
}

// committed is the offsets of a group, by partition.
func committed(bootstrap, group, topic string, partitions ...int32) map[int32]*sarama.OffsetFetchResponseBlock {
	admin := adminOf(bootstrap)
	defer admin.Close()
	answer, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: partitions})
	Must(err, "list offsets of the group")
	return answer.Blocks[topic]
}

func commits(bootstrap string) {
	topic, group := newTopic(bootstrap, "commits", 2, nil), Unique("group")
	mustProduce(bootstrap, numbers(topic, 0, 20, 2))
	commitAt(bootstrap, group, topic, 0, 4, "mark")
	found := committed(bootstrap, group, topic, 0, 1)
	Equal([]int64{found[0].Offset, found[1].Offset}, []int64{4, -1}, "committed offsets")
	Equal(found[0].Metadata, "mark", "metadata")
	m := join(bootstrap, group, topic)
	Eventually("what is left", func() bool { return seen(m) == 16 })
	m.leave()
	found = committed(bootstrap, group, topic, 0, 1)
	Equal([]int64{found[0].Offset, found[1].Offset}, []int64{10, 10}, "committed positions")
}
