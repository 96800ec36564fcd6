package main

import (
	"context"
	"strings"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"

	. "highwater/tests/clients/go/scenario"
)

// scramClient lets sarama, which brings no SCRAM of its own, use the library that its documentation names.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

func (c *scramClient) Begin(user, password, authzID string) error {
	client, err := c.hash.NewClient(user, password, authzID)
	if err == nil {
		c.conversation = client.NewConversation()
	}
	return err
}

func (c *scramClient) Step(challenge string) (string, error) {
	return c.conversation.Step(challenge)
}

func (c *scramClient) Done() bool {
	return c.conversation.Done()
}

type bearer string

func (name bearer) Token() (*sarama.AccessToken, error) {
	return &sarama.AccessToken{Token: Token(string(name))}, nil
}

func withTLS(certificate bool) change {
	return func(c *sarama.Config) {
		c.Net.TLS.Enable = true
		c.Net.TLS.Config = TLS(certificate)
	}
}

func withPassword(mechanism sarama.SASLMechanism, hash scram.HashGeneratorFcn, password string) change {
	return func(c *sarama.Config) {
		c.Net.SASL.Enable = true
		c.Net.SASL.Mechanism = mechanism
		c.Net.SASL.User = User
		c.Net.SASL.Password = password
		c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: hash} }
	}
}

func withToken(name string) change {
	return func(c *sarama.Config) {
		c.Net.SASL.Enable = true
		c.Net.SASL.Mechanism = sarama.SASLTypeOAuth
		c.Net.SASL.TokenProvider = bearer(name)
	}
}

// oneRecord keeps the first record a member of a group gets.
type oneRecord struct {
	value chan string
}

func (oneRecord) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (oneRecord) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (one oneRecord) ConsumeClaim(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	if message, ok := <-claim.Messages(); ok {
		one.value <- string(message.Value)
	}
	return nil
}

// roundTrip writes a record, which a member of a group reads.
func roundTrip(protocol string, changes ...change) {
	topic := Unique("sarama-secured")
	mustProduce(Listener(protocol), []*sarama.ProducerMessage{message(topic, "told")}, changes...)
	settings := config(changes...)
	settings.Consumer.Offsets.Initial = sarama.OffsetOldest
	group, err := sarama.NewConsumerGroup([]string{Listener(protocol)}, Unique("secured"), settings)
	Must(err, "group")
	defer group.Close()
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	one := oneRecord{make(chan string, 1)}
	Must(group.Consume(ctx, []string{topic}, one), "consume")
	select {
	case value := <-one.value:
		Equal(value, "told", "value")
	default:
		Fail("the group read nothing")
	}
}

func refusal(protocol string, changes ...change) error {
	settings := config(changes...)
	settings.Metadata.Retry.Max = 0
	client, err := sarama.NewClient([]string{Listener(protocol)}, settings)
	if err == nil {
		client.Close()
	}
	return err
}

func logsIn(good, wrong change) {
	for _, protocol := range []string{"SASL_PLAINTEXT", "SASL_SSL"} {
		var changes []change
		if protocol == "SASL_SSL" {
			changes = append(changes, withTLS(false))
		}
		roundTrip(protocol, append(changes, good)...)
		refused("logging in", refusal(protocol, append(changes, wrong)...), sarama.ErrSASLAuthenticationFailed)
	}
}

func saslPlain(string) {
	logsIn(
		withPassword(sarama.SASLTypePlaintext, nil, Password),
		withPassword(sarama.SASLTypePlaintext, nil, WrongPassword),
	)
}

func saslScramSha256(string) {
	logsIn(
		withPassword(sarama.SASLTypeSCRAMSHA256, scram.SHA256, Password),
		withPassword(sarama.SASLTypeSCRAMSHA256, scram.SHA256, WrongPassword),
	)
}

func saslScramSha512(string) {
	logsIn(
		withPassword(sarama.SASLTypeSCRAMSHA512, scram.SHA512, Password),
		withPassword(sarama.SASLTypeSCRAMSHA512, scram.SHA512, WrongPassword),
	)
}

func saslOauthbearer(string) {
	logsIn(withToken("token"), withToken("strange-token"))
}

func tlsClientCertificate(string) {
	roundTrip("SSL", withTLS(true))
	err := refusal("SSL", withTLS(false))
	Check(err != nil && strings.Contains(err.Error(), "certificate required"), "refused with %v", err)
}
