package main

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	. "highwater/tests/clients/go/scenario"
)

// roundTrip writes a record, which a member of a group reads.
func roundTrip(protocol string, options ...kgo.Opt) {
	topic := Unique("franz-secured")
	options = append(options, kgo.AllowAutoTopicCreation())
	producer := client(Listener(protocol), append(options, kgo.DefaultProduceTopic(topic))...)
	ctx, cancel := within()
	defer cancel()
	Must(producer.ProduceSync(ctx, kgo.StringRecord("told")).FirstErr(), "produce")
	producer.Close()
	consumer := client(Listener(protocol), append(options,
		kgo.ConsumerGroup(Unique("secured")), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	defer consumer.Close()
	Equal(values(read(consumer, 1)), []string{"told"}, "values")
}

// refusal is the error of a first question.
func refusal(protocol string, options ...kgo.Opt) error {
	cl := client(Listener(protocol), options...)
	defer cl.Close()
	ctx, cancel := within()
	defer cancel()
	return cl.Ping(ctx)
}

func logsIn(good, wrong sasl.Mechanism) {
	for _, protocol := range []string{"SASL_PLAINTEXT", "SASL_SSL"} {
		var options []kgo.Opt
		if protocol == "SASL_SSL" {
			options = append(options, kgo.DialTLSConfig(TLS(false)))
		}
		roundTrip(protocol, append(options, kgo.SASL(good))...)
		refused("logging in", refusal(protocol, append(options, kgo.SASL(wrong))...), kerr.SaslAuthenticationFailed)
	}
}

func saslPlain(string) {
	logsIn(
		plain.Auth{User: User, Pass: Password}.AsMechanism(),
		plain.Auth{User: User, Pass: WrongPassword}.AsMechanism(),
	)
}

func saslScramSha256(string) {
	logsIn(
		scram.Auth{User: User, Pass: Password}.AsSha256Mechanism(),
		scram.Auth{User: User, Pass: WrongPassword}.AsSha256Mechanism(),
	)
}

func saslScramSha512(string) {
	logsIn(
		scram.Auth{User: User, Pass: Password}.AsSha512Mechanism(),
		scram.Auth{User: User, Pass: WrongPassword}.AsSha512Mechanism(),
	)
}

func saslOauthbearer(string) {
	logsIn(
		oauth.Auth{Token: Token("token")}.AsMechanism(),
		oauth.Auth{Token: Token("strange-token")}.AsMechanism(),
	)
}

func tlsClientCertificate(string) {
	roundTrip("SSL", kgo.DialTLSConfig(TLS(true)))
	err := refusal("SSL", kgo.DialTLSConfig(TLS(false)))
	Check(err != nil && strings.Contains(err.Error(), "certificate required"), "refused with %v", err)
}
