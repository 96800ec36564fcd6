// The first tutorial of KafkaJS: create a topic through the admin client, produce, and consume from the
// beginning with a group.
//
// usage: node tutorial.js BOOTSTRAP COUNT

const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, countText] = process.argv.slice(2)
const count = Number(countText)
const kafka = new Kafka({ clientId: 'my-app', brokers: [bootstrap], logLevel: logLevel.WARN })

async function main() {
  const admin = kafka.admin()
  await admin.connect()
  const created = await admin.createTopics({
    waitForLeaders: true,
    topics: [{ topic: 'my-topic', numPartitions: 3 }],
  })
  if (!created) throw new Error('the topic was there already')
  const { topics } = await admin.fetchTopicMetadata({ topics: ['my-topic'] })
  if (topics[0].partitions.length !== 3) throw new Error(`expected 3 partitions: ${JSON.stringify(topics)}`)
  await admin.disconnect()

  const producer = kafka.producer()
  await producer.connect()
  const messages = Array.from({ length: count }, (_, i) => ({ key: `key-${i}`, value: `hello ${i}` }))
  await producer.send({ topic: 'my-topic', messages })
  await producer.disconnect()

  const consumer = kafka.consumer({ groupId: 'test-group' })
  await consumer.connect()
  await consumer.subscribe({ topic: 'my-topic', fromBeginning: true })
  const seen = new Map()
  const partitions = new Set()
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`only ${seen.size} of ${count} messages came`)), 45000)
    consumer
      .run({
        eachMessage: async ({ partition, message }) => {
          seen.set(message.key.toString(), message.value.toString())
          partitions.add(partition)
          if (seen.size === count) {
            clearTimeout(timer)
            resolve()
          }
        },
      })
      .catch(reject)
  })
  await consumer.disconnect()
  for (let i = 0; i < count; i++) {
    if (seen.get(`key-${i}`) !== `hello ${i}`) throw new Error(`key-${i} carries ${seen.get(`key-${i}`)}`)
  }
  console.log(`read all ${seen.size} from ${partitions.size} partitions`)
}

main().then(
  () => process.exit(0),
  error => {
    console.error(error)
    process.exit(1)
  },
)
