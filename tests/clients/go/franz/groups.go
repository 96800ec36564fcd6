package main

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	. "highwater/tests/clients/go/scenario"
)

func consumer(bootstrap, group, topic string, options ...kgo.Opt) *kgo.Client {
	return client(bootstrap, append([]kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(6 * time.Second),
		kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.FetchMaxWait(200 * time.Millisecond),
	}, options...)...)
}

// member is one member of a group, polling until it is told to leave.
type member struct {
	cl       *kgo.Client
	lock     sync.Mutex
	owned    map[int32]bool
	revoked  map[int32]bool
	values   map[string]bool
	rounds   atomic.Int64
	finished chan struct{}
}

func join(bootstrap, group, topic string, options ...kgo.Opt) *member {
	m := &member{
		owned:    map[int32]bool{},
		revoked:  map[int32]bool{},
		values:   map[string]bool{},
		finished: make(chan struct{}),
	}
	taken := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.lock.Lock()
		defer m.lock.Unlock()
		m.rounds.Add(1)
		for _, partition := range partitions[topic] {
			m.owned[partition] = true
		}
	}
	given := func(ctx context.Context, cl *kgo.Client, partitions map[string][]int32) {
		_ = cl.CommitUncommittedOffsets(ctx)
		m.lock.Lock()
		defer m.lock.Unlock()
		for _, partition := range partitions[topic] {
			delete(m.owned, partition)
			m.revoked[partition] = true
		}
	}
	options = append(options, kgo.OnPartitionsAssigned(taken), kgo.OnPartitionsRevoked(given), kgo.OnPartitionsLost(given))
	m.cl = consumer(bootstrap, group, topic, options...)
	go func() {
		defer close(m.finished)
		for {
			fetches := m.cl.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			m.lock.Lock()
			fetches.EachRecord(func(record *kgo.Record) { m.values[string(record.Value)] = true })
			m.lock.Unlock()
		}
	}()
	return m
}

// partitions is what the member owns now.
func (m *member) partitions() map[int32]bool {
	m.lock.Lock()
	defer m.lock.Unlock()
	return maps.Clone(m.owned)
}

// givenUp is what the member was ever asked to give up.
func (m *member) givenUp() map[int32]bool {
	m.lock.Lock()
	defer m.lock.Unlock()
	return maps.Clone(m.revoked)
}

func (m *member) leave() {
	m.cl.Close()
	<-m.finished
}

// seen counts the different values that the members have read.
func seen(members ...*member) int {
	all := map[string]bool{}
	for _, m := range members {
		m.lock.Lock()
		for value := range m.values {
			all[value] = true
		}
		m.lock.Unlock()
	}
	return len(all)
}

// rebalance: one member owns all, a second takes half, and the first gets that back; nothing is missed. Returns the group's name.
func rebalance(bootstrap, name string, keeps bool, options ...kgo.Opt) string {
	topic, group := newTopic(bootstrap, name, 4, nil), Unique("group")
	mustProduce(bootstrap, topic, numbers(0, 100, 4))
	first := join(bootstrap, group, topic, options...)
	Eventually("the only member owns all", func() bool { return len(first.partitions()) == 4 })
	Eventually("the first 100 records", func() bool { return seen(first) == 100 })
	second := join(bootstrap, group, topic, options...)
	Eventually("two partitions each", func() bool {
		return len(first.partitions()) == 2 && len(second.partitions()) == 2
	})
	for partition := range first.partitions() {
		Check(!second.partitions()[partition], "both own partition %d", partition)
	}
	if keeps {
		Equal(first.givenUp(), second.partitions(), "what a cooperative member gave up")
	}
	mustProduce(bootstrap, topic, numbers(100, 200, 4))
	Eventually("the second 100 records", func() bool { return seen(first, second) == 200 })
	Check(seen(second) > 0, "the second member read nothing")
	second.leave()
	Eventually("the first member owns all again", func() bool { return len(first.partitions()) == 4 })
	mustProduce(bootstrap, topic, numbers(200, 300, 4))
	Eventually("the third 100 records", func() bool { return seen(first, second) == 300 })
	first.leave()
	return group
}

func groupRebalance(bootstrap string) {
	rebalance(bootstrap, "rebalance", false, kgo.Balancers(kgo.RangeBalancer()))
}

func cooperativeSticky(bootstrap string) {
	rebalance(bootstrap, "cooperative", true, kgo.Balancers(kgo.CooperativeStickyBalancer()))
}

// consumerProtocol is the group protocol of KIP-848, where the broker assigns.
func consumerProtocol(bootstrap string) {
	group := rebalance(bootstrap, "consumer", false, kgo.ServerSideBalancer())
	admin := kadm.NewClient(client(bootstrap))
	defer admin.Close()
	ctx, cancel := within()
	defer cancel()
	groups, err := admin.ListGroupsByType(ctx, []string{"consumer"})
	Must(err, "list groups")
	// Without the protocol in the broker, the client falls back to the classic one and says nothing.
	_, ok := groups[group]
	Check(ok, "the group does not have the type consumer")
}

// staticMembership: a member with an instance id comes back within its session and nobody rebalances.
func staticMembership(bootstrap string) {
	topic, group := newTopic(bootstrap, "static", 4, nil), Unique("group")
	joinAs := func(id string) *member {
		return join(bootstrap, group, topic,
			kgo.InstanceID(id), kgo.SessionTimeout(20*time.Second), kgo.Balancers(kgo.RangeBalancer()))
	}
	first, second := joinAs("one"), joinAs("two")
	Eventually("two partitions each", func() bool {
		return len(first.partitions()) == 2 && len(second.partitions()) == 2
	})
	owned, rounds := second.partitions(), first.rounds.Load()
	second.leave()
	again := joinAs("two")
	Eventually("the same partitions again", func() bool {
		return fmt.Sprint(again.partitions()) == fmt.Sprint(owned)
	})
	time.Sleep(time.Second)
	Equal(first.rounds.Load(), rounds, "assignments of the member that stayed")
	first.leave()
	again.leave()
}
