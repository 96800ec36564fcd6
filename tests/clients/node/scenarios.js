// The scenarios of SCENARIOS.md with KafkaJS.
//
// usage: node scenarios.js BOOTSTRAP [SCENARIO...]

const { randomBytes } = require('crypto')
const { AssignerProtocol, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const { version } = require('kafkajs/package.json')
const codecs = require('./codecs')
const { check, equal, eventually, main, refused, sleep, unique } = require('./harness')
const secured = require('./secured')

const kafkas = new Map()

function kafkaOf(bootstrap) {
  if (!kafkas.has(bootstrap)) {
    kafkas.set(
      bootstrap,
      new Kafka({ clientId: 'scenarios', brokers: [bootstrap], logLevel: logLevel.NOTHING }),
    )
  }
  return kafkas.get(bootstrap)
}

const admins = new Map()

async function adminOf(bootstrap) {
  if (!admins.has(bootstrap)) {
    const admin = kafkaOf(bootstrap).admin()
    admins.set(bootstrap, admin.connect().then(() => admin))
  }
  return admins.get(bootstrap)
}

async function newTopic(bootstrap, name, numPartitions = 1, configs = {}) {
  const topic = unique(`kafkajs-${name}`)
  const configEntries = Object.entries(configs).map(([key, value]) => ({ name: key, value }))
  const admin = await adminOf(bootstrap)
  await admin.createTopics({ topics: [{ topic, numPartitions, configEntries }] })
  return topic
}

// Sends the messages in one request and returns what the producer says of each partition.
async function produce(bootstrap, topic, messages, sending = {}, config = {}) {
  const producer = kafkaOf(bootstrap).producer({ retry: { retries: 3 }, ...config })
  await producer.connect()
  try {
    return await producer.send({ topic, messages, ...sending })
  } finally {
    await producer.disconnect()
  }
}

// One member of a group that keeps what it reads.
class Member {
  constructor(bootstrap, groupId, config = {}) {
    this.messages = []
    this.owned = []
    this.joins = 0
    this.crash = undefined
    this.consumer = kafkaOf(bootstrap).consumer({
      groupId,
      sessionTimeout: 6000,
      heartbeatInterval: 300,
      maxWaitTimeInMs: 100,
      ...config,
    })
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.owned = Object.values(payload.memberAssignment).flat()
      this.joins += 1
    })
    this.consumer.on(this.consumer.events.CRASH, ({ payload }) => {
      this.crash = payload.error
    })
  }

  async run(topic, { fromBeginning = true, ...running } = {}) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topic, fromBeginning })
    await this.consumer.run({
      autoCommitInterval: 200,
      eachMessage: async ({ partition, message }) => {
        this.messages.push({ partition, ...message })
      },
      ...running,
    })
    return this
  }

  get values() {
    return this.messages.map(message => message.value.toString())
  }

  async until(count) {
    await eventually(`${count} messages`, () => this.crash || this.messages.length >= count)
    if (this.crash) throw this.crash
    return this.messages
  }

  async leave() {
    await this.consumer.disconnect()
  }
}

async function readAll(bootstrap, topic, count, config = {}) {
  const member = await new Member(bootstrap, unique('reader'), config).run(topic)
  const messages = [...(await member.until(count))]
  await member.leave()
  equal(messages.length, count, 'messages')
  return messages
}

const numbers = (start, end, partitions = 4) =>
  Array.from({ length: end - start }, (_, i) => ({
    value: String(start + i),
    partition: (start + i) % partitions,
  }))

const values = messages => messages.map(message => message.value.toString())

const scenarios = {
  async 'produce-codecs'(bootstrap) {
    for (const codec of ['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD']) {
      const topic = await newTopic(bootstrap, `codec-${codec}`)
      const messages = Array.from({ length: 200 }, (_, i) => ({ value: `highwater ${i} `.repeat(20) }))
      await produce(bootstrap, topic, messages, { compression: CompressionTypes[codec] })
      equal(values(await readAll(bootstrap, topic, 200)), values(messages), codec)
    }
  },

  async acks(bootstrap) {
    const topic = await newTopic(bootstrap, 'acks')
    for (const acks of [0, 1, -1]) {
      await produce(bootstrap, topic, [{ value: String(acks) }], { acks })
    }
    equal(values(await readAll(bootstrap, topic, 3)), ['0', '1', '-1'], 'values')
  },

  async 'idempotent-produce'(bootstrap) {
    const topic = await newTopic(bootstrap, 'idempotent', 4)
    const producer = kafkaOf(bootstrap).producer({ idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    for (let start = 0; start < 2000; start += 100) {
      await producer.send({ topic, messages: numbers(start, start + 100) })
    }
    await producer.disconnect()
    const messages = await readAll(bootstrap, topic, 2000)
    for (let partition = 0; partition < 4; partition++) {
      const mine = messages.filter(message => message.partition === partition)
      equal(
        mine.map(message => [message.offset, message.value.toString()]),
        Array.from({ length: 500 }, (_, i) => [String(i), String(partition + 4 * i)]),
        'order',
      )
    }
  },

  async 'keys-and-values'(bootstrap) {
    const topic = await newTopic(bootstrap, 'nulls')
    const pairs = [[null, null], [null, ''], ['', null], ['', ''], ['k', 'v']]
    await produce(bootstrap, topic, pairs.map(([key, value]) => ({ key, value })))
    const text = bytes => (bytes === null ? null : bytes.toString())
    const read = await readAll(bootstrap, topic, 5)
    equal(read.map(message => [text(message.key), text(message.value)]), pairs, 'pairs')
  },

  async headers(bootstrap) {
    const topic = await newTopic(bootstrap, 'headers')
    const binary = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    // The client keeps headers in an object: equal keys become one array, and it has no null value.
    const headers = { a: ['1', '2'], b: 'x', empty: '', binary }
    await produce(bootstrap, topic, [{ value: 'v', headers }, { value: 'w' }])
    const [first, second] = await readAll(bootstrap, topic, 2)
    equal(first.headers.a.map(String), ['1', '2'], 'equal keys')
    equal([first.headers.b, first.headers.empty].map(String), ['x', ''], 'values')
    check(first.headers.binary.equals(binary), 'binary value')
    equal(second.headers, {}, 'no headers')
  },

  async timestamps(bootstrap) {
    const topic = await newTopic(bootstrap, 'timestamps')
    const base = 1700000000000
    const stamps = Array.from({ length: 10 }, (_, i) => String(base + i * 1000))
    await produce(bootstrap, topic, stamps.map(timestamp => ({ value: 'v', timestamp })))
    const read = await readAll(bootstrap, topic, 10)
    equal(read.map(message => message.timestamp), stamps, 'timestamps')
    const admin = await adminOf(bootstrap)
    for (const [stamp, offset] of [[0, 0], [base + 4000, 4], [base + 4001, 5], [base + 9001, 10]]) {
      const [found] = await admin.fetchTopicOffsetsByTimestamp(topic, stamp)
      equal(found.offset, String(offset), `offset for ${stamp - base}`)
    }
    const appended = await newTopic(bootstrap, 'appended', 1, { 'message.timestamp.type': 'LogAppendTime' })
    const [sent] = await produce(bootstrap, appended, [{ value: 'v', timestamp: String(base) }])
    const [message] = await readAll(bootstrap, appended, 1)
    check(Math.abs(Number(sent.logAppendTime) - Date.now()) < 60000, `append time ${sent.logAppendTime}`)
    equal(message.timestamp, sent.logAppendTime, 'the append time is read')
  },

  async 'large-message'(bootstrap) {
    const topic = await newTopic(bootstrap, 'large')
    const value = randomBytes(1000000)
    await produce(bootstrap, topic, [{ value }])
    const [read] = await readAll(bootstrap, topic, 1)
    check(read.value.equals(value), 'the large value')
    await refused(
      '2 MB under the default limit',
      () => produce(bootstrap, topic, [{ value: Buffer.concat([value, value]) }]),
      'MESSAGE_TOO_LARGE',
    )
    const wide = await newTopic(bootstrap, 'wide', 1, { 'max.message.bytes': '8000000' })
    await produce(bootstrap, wide, [{ value: Buffer.alloc(5000000, 7) }])
    const limits = { maxBytesPerPartition: 100000, maxBytes: 100000 }
    const [large] = await readAll(bootstrap, wide, 1, limits)
    equal(large.value.length, 5000000, 'size past the fetch limit')
  },

  async 'group-rebalance'(bootstrap) {
    const topic = await newTopic(bootstrap, 'rebalance', 4)
    const group = unique('group')
    await produce(bootstrap, topic, numbers(0, 100))
    const first = await new Member(bootstrap, group).run(topic)
    await eventually('the only member owns all', () => first.owned.length === 4)
    await first.until(100)
    const second = await new Member(bootstrap, group).run(topic)
    const seen = () => new Set([...first.values, ...second.values])
    await eventually('two partitions each', () => first.owned.length === 2 && second.owned.length === 2)
    equal([...first.owned, ...second.owned].sort(), [0, 1, 2, 3], 'all partitions are owned')
    await produce(bootstrap, topic, numbers(100, 200))
    await eventually('the second 100 messages', () => seen().size === 200)
    check(second.values.length > 0, 'the second member read nothing')
    await second.leave()
    await eventually('the first member owns all again', () => first.owned.length === 4)
    await produce(bootstrap, topic, numbers(200, 300))
    await eventually('the third 100 messages', () => seen().size === 300)
    await first.leave()
  },

  async commits(bootstrap) {
    const topic = await newTopic(bootstrap, 'commits', 2)
    const group = unique('group')
    const admin = await adminOf(bootstrap)
    await produce(bootstrap, topic, numbers(0, 20, 2))
    const first = await new Member(bootstrap, group).run(topic, { autoCommit: false })
    await first.until(20)
    await first.consumer.commitOffsets([{ topic, partition: 0, offset: '4', metadata: 'mark' }])
    await first.leave()
    const committed = async () => {
      const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
      return found.partitions.sort((left, right) => left.partition - right.partition)
    }
    equal((await committed()).map(p => [p.offset, p.metadata]), [['4', 'mark'], ['-1', null]], 'committed')
    const second = await new Member(bootstrap, group).run(topic)
    const read = (await second.until(16)).map(m => `${m.partition}:${m.offset}`)
    const wanted = [
      ...Array.from({ length: 6 }, (_, i) => `0:${i + 4}`),
      ...Array.from({ length: 10 }, (_, i) => `1:${i}`),
    ]
    equal(read.sort(), wanted, 'read after the commit')
    await eventually('the automatic commit', async () =>
      (await committed()).every(partition => partition.offset === '10'),
    )
    await second.leave()
  },

  async 'offset-resets'(bootstrap) {
    const topic = await newTopic(bootstrap, 'resets')
    await produce(bootstrap, topic, numbers(0, 10, 1))
    const member = await new Member(bootstrap, unique('group')).run(topic)
    await member.until(10)
    const after = async offset => {
      member.messages = []
      member.consumer.seek({ topic, partition: 0, offset })
      return (await member.until(1))[0].offset
    }
    equal(await after('3'), '3', 'after seek')
    equal(await after('0'), '0', 'after seek to the beginning')
    await member.until(10)
    // The client has no name for the end: it is looked up.
    const [{ high }] = await (await adminOf(bootstrap)).fetchTopicOffsets(topic)
    member.messages = []
    member.consumer.seek({ topic, partition: 0, offset: high })
    await sleep(1000)
    equal(member.messages.length, 0, 'messages after seek to the end')
    await produce(bootstrap, topic, [{ value: '10' }])
    equal((await member.until(1))[0].offset, '10', 'after the end')
    // An offset past the end: this client resets to where its subscription says that it begins.
    equal(await after('99'), '0', 'earliest')
    await member.leave()
    const latest = await new Member(bootstrap, unique('group')).run(topic, { fromBeginning: false })
    await eventually('joined', () => latest.joins > 0)
    latest.consumer.seek({ topic, partition: 0, offset: '99' })
    await sleep(1500)
    equal(latest.messages.length, 0, 'messages after the reset to latest')
    await produce(bootstrap, topic, [{ value: '11' }])
    equal((await latest.until(1))[0].offset, '11', 'latest')
    await latest.leave()
  },

  async 'read-committed'(bootstrap) {
    const topic = await newTopic(bootstrap, 'committed')
    await produce(bootstrap, topic, numbers(0, 5, 1))
    for (const readUncommitted of [false, true]) {
      equal((await readAll(bootstrap, topic, 5, { readUncommitted })).length, 5, 'messages')
    }
  },

  async 'list-offsets'(bootstrap) {
    const topic = await newTopic(bootstrap, 'offsets')
    const base = 1700000000000
    const messages = [0, 30, 10, 20].map(n => ({ value: 'v', timestamp: String(base + n) }))
    await produce(bootstrap, topic, messages)
    const admin = await adminOf(bootstrap)
    const [ends] = await admin.fetchTopicOffsets(topic)
    equal([ends.low, ends.high], ['0', '4'], 'earliest and latest')
    const [found] = await admin.fetchTopicOffsetsByTimestamp(topic, base + 5)
    equal(found.offset, '1', 'by time')
  },

  async 'admin-topics'(bootstrap) {
    const admin = await adminOf(bootstrap)
    const topic = unique('kafkajs-admin')
    const wanted = { topic, numPartitions: 3, configEntries: [{ name: 'retention.ms', value: '3600000' }] }
    await admin.createTopics({ topics: [wanted], validateOnly: true, waitForLeaders: false })
    check(!(await admin.listTopics()).includes(topic), 'validateOnly made a topic')
    equal(await admin.createTopics({ topics: [wanted] }), true, 'created')
    equal(await admin.createTopics({ topics: [wanted] }), false, 'the same topic twice')
    const wide = { topic: unique('wide'), replicationFactor: 3 }
    await refused(
      'replication factor 3 on one node',
      () => admin.createTopics({ topics: [wide] }),
      'INVALID_REPLICATION_FACTOR',
    )
    await refused(
      'an illegal name',
      () => admin.createTopics({ topics: [{ topic: 'no spaces' }] }),
      'INVALID_TOPIC_EXCEPTION',
    )
    const partitions = async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      return topics[0].partitions
    }
    const described = await partitions()
    equal(described.map(p => p.partitionId).sort(), [0, 1, 2], 'partitions')
    check(described.every(p => p.isr.length === 1 && p.leader === p.isr[0]), 'leaders and replicas')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    await eventually('five partitions', async () => (await partitions()).length === 5)
    await refused(
      'shrinking',
      () => admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] }),
      'INVALID_PARTITIONS',
    )
    await admin.deleteTopics({ topics: [topic] })
    await eventually('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
    await refused(
      'deleting it again',
      () => admin.deleteTopics({ topics: [topic] }),
      'UNKNOWN_TOPIC_OR_PARTITION',
    )
  },

  async 'admin-configs'(bootstrap) {
    const admin = await adminOf(bootstrap)
    const topic = await newTopic(bootstrap, 'configs', 1, { 'retention.ms': '3600000' })
    const described = async (type = ConfigResourceTypes.TOPIC, name = topic) => {
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type, name }],
      })
      return new Map(resources[0].configEntries.map(entry => [entry.configName, entry]))
    }
    const alter = configEntries =>
      admin.alterConfigs({
        validateOnly: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }],
      })
    let entries = await described()
    check(entries.size > 20, `only ${entries.size} configs are described`)
    equal(entries.get('retention.ms').configValue, '3600000', 'retention.ms')
    // The client has only AlterConfigs, which replaces the whole set.
    await alter([{ name: 'segment.bytes', value: '2097152' }])
    entries = await described()
    equal(entries.get('segment.bytes').configValue, '2097152', 'segment.bytes')
    equal(entries.get('retention.ms').configValue, '604800000', 'retention.ms, replaced by its default')
    await refused('a value out of range', () => alter([{ name: 'segment.bytes', value: '-7' }]), 'INVALID_CONFIG')
    const { brokers } = await admin.describeCluster()
    const broker = await described(ConfigResourceTypes.BROKER, String(brokers[0].nodeId))
    check(broker.has('log.segment.bytes'), 'broker configs')
  },

  async 'admin-groups'(bootstrap) {
    const admin = await adminOf(bootstrap)
    const topic = await newTopic(bootstrap, 'groups', 2)
    const group = unique('kafkajs-group')
    await produce(bootstrap, topic, numbers(0, 20, 2))
    const member = await new Member(bootstrap, group).run(topic)
    await member.until(20)
    const describe = async () => (await admin.describeGroups([group])).groups[0]
    const stable = await describe()
    equal([stable.state, stable.members.length], ['Stable', 1], 'state')
    const { assignment } = AssignerProtocol.MemberAssignment.decode(stable.members[0].memberAssignment)
    equal(assignment[topic].sort(), [0, 1], 'described assignment')
    const listed = async () => (await admin.listGroups()).groups.some(each => each.groupId === group)
    check(await listed(), 'the group is not listed')
    await refused('deleting a live group', () => admin.deleteGroups([group]), 'NON_EMPTY_GROUP')
    await member.leave()
    await eventually('the group is empty', async () => (await describe()).state === 'Empty')
    const partitions = [{ partition: 0, offset: '7' }, { partition: 1, offset: '8' }]
    await admin.setOffsets({ groupId: group, topic, partitions })
    const [found] = await admin.fetchOffsets({ groupId: group })
    equal(found.partitions.map(p => [p.partition, p.offset]).sort(), [[0, '7'], [1, '8']], 'offsets')
    await admin.resetOffsets({ groupId: group, topic, earliest: true })
    await admin.deleteGroups([group])
    check(!(await listed()), 'the deleted group is listed')
    await refused('deleting it again', () => admin.deleteGroups([group]), 'GROUP_ID_NOT_FOUND')
  },

  async 'delete-records'(bootstrap) {
    const admin = await adminOf(bootstrap)
    const topic = await newTopic(bootstrap, 'delete')
    await produce(bootstrap, topic, numbers(0, 10, 1))
    const low = async () => (await admin.fetchTopicOffsets(topic))[0].low
    // Also makes the topic one whose leader the client looks up.
    equal(await low(), '0', 'earliest before')
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
    equal(await low(), '4', 'earliest')
    const left = await readAll(bootstrap, topic, 6)
    equal(left.map(message => message.offset), ['4', '5', '6', '7', '8', '9'], 'left')
    await refused(
      'deleting past the end',
      () => admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '99' }] }),
      'OFFSET_OUT_OF_RANGE',
    )
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '-1' }] })
    equal(await low(), '10', 'all gone')
  },

  async 'describe-cluster'(bootstrap) {
    const cluster = await (await adminOf(bootstrap)).describeCluster()
    check(cluster.clusterId, 'no cluster id')
    check(cluster.brokers.some(broker => broker.nodeId === cluster.controller), 'the controller is no node')
    equal(cluster.brokers.map(broker => `${broker.host}:${broker.port}`), [bootstrap], 'nodes')
  },

  ...secured,
}

codecs.install().then(() => main(`KafkaJS ${version}`, scenarios))
