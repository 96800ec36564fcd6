// The scenarios of the secured node: logging in with each mechanism, over TCP and over TLS, and with a certificate.

const { readFileSync } = require('fs')
const { join } = require('path')
const { Kafka, logLevel } = require('kafkajs')
const { check, equal, eventually, unique } = require('./harness')

// Whom the secured node knows; SCENARIOS.md tells of it.
const username = 'alice'
const PASSWORD = 'alice-secret'
const WRONG_PASSWORD = 'wrong-secret'

const tlsFile = name => readFileSync(join(process.env.HIGHWATER_TEST_TLS, name), 'utf8')

function secured(protocol, { ssl = {}, ...config }) {
  const tls = protocol.endsWith('SSL') ? { ssl: { ca: [tlsFile('ca.pem')], ...ssl } } : {}
  return new Kafka({
    brokers: [process.env[`HIGHWATER_TEST_${protocol}`]],
    logLevel: logLevel.NOTHING,
    retry: { retries: 2 },
    ...tls,
    ...config,
  })
}

// A record is written, and a member of a group reads it.
async function roundTrip(kafka) {
  const topic = unique('kafkajs-secured')
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic }] })
  await admin.disconnect()
  const producer = kafka.producer()
  await producer.connect()
  await producer.send({ topic, messages: [{ value: 'told' }] })
  await producer.disconnect()
  const consumer = kafka.consumer({ groupId: unique('secured'), maxWaitTimeInMs: 100 })
  const values = []
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => values.push(message.value.toString()) })
  await eventually('the record', () => values.length > 0)
  await consumer.disconnect()
  equal(values, ['told'], 'values')
}

async function refused(kafka, names) {
  const admin = kafka.admin()
  try {
    await admin.connect()
  } catch (error) {
    const told = [error.name, error.cause && error.cause.name]
    check(names.some(name => told.includes(name)), `refused with ${told}: ${error.message}`)
    return
  } finally {
    await admin.disconnect()
  }
  throw new Error('was not refused')
}

async function logsIn(mechanism, good, wrong) {
  for (const protocol of ['SASL_PLAINTEXT', 'SASL_SSL']) {
    await roundTrip(secured(protocol, { sasl: { mechanism, ...good } }))
    await refused(secured(protocol, { sasl: { mechanism, ...wrong } }), ['KafkaJSSASLAuthenticationError'])
  }
}

const withPassword = mechanism => () =>
  logsIn(mechanism, { username, password: PASSWORD }, { username, password: WRONG_PASSWORD })

const bearer = name => ({ oauthBearerProvider: async () => ({ value: tlsFile(name) }) })

module.exports = {
  'sasl-plain': withPassword('plain'),
  'sasl-scram-sha-256': withPassword('scram-sha-256'),
  'sasl-scram-sha-512': withPassword('scram-sha-512'),
  'sasl-oauthbearer': () => logsIn('oauthbearer', bearer('token'), bearer('strange-token')),

  async 'tls-client-certificate'() {
    await roundTrip(secured('SSL', { ssl: { cert: tlsFile('client.crt'), key: tlsFile('client.key') } }))
    await refused(secured('SSL', {}), ['KafkaJSConnectionError', 'KafkaJSNumberOfRetriesExceeded'])
  },
}
