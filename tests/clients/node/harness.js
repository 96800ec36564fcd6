// What the scenario program shares with none of its scenarios: names, waiting, and the lines that the suite reads.

const { randomBytes } = require('crypto')

// Scenarios mostly wait for rebalances, so a few run at once.
const AT_ONCE = 4

const unique = name => `${name}-${randomBytes(4).toString('hex')}`

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

function check(condition, what) {
  if (!condition) throw new Error(what)
}

const shown = value =>
  JSON.stringify(value, (_, part) =>
    part && part.type === 'Buffer' ? Buffer.from(part.data).toString('latin1') : part,
  )

function equal(actual, expected, what) {
  check(shown(actual) === shown(expected), `${what}: expected ${shown(expected)}, got ${shown(actual)}`)
}

async function eventually(what, condition, limitMs = 20000) {
  const deadline = Date.now() + limitMs
  for (;;) {
    const result = await condition()
    if (result) return result
    check(Date.now() < deadline, `not within ${limitMs} ms: ${what}`)
    await sleep(50)
  }
}

// The protocol's names of all errors that an error of the client carries.
function typesOf(error) {
  if (!error) return []
  const parts = [error.cause, error.error, error.originalError]
  const lists = [error.errors, error.groups, error.partitions]
  return [error.type, ...parts.flatMap(typesOf), ...lists.flatMap(list => (list || []).flatMap(typesOf))].filter(Boolean)
}

// `action` must be refused with an error of the protocol whose name is `type`.
async function refused(what, action, type) {
  let result
  try {
    result = await action()
  } catch (error) {
    check(typesOf(error).includes(type), `${what}: refused with ${typesOf(error)}: ${error.message}`)
    return
  }
  throw new Error(`${what}: was not refused but gave ${shown(result)}`)
}

// usage: PROGRAM BOOTSTRAP [SCENARIO...]
async function main(client, scenarios) {
  const [bootstrap, ...names] = process.argv.slice(2)
  console.log(`client ${client}`)
  const waiting = names.length ? names : Object.keys(scenarios)
  let failed = false
  async function work() {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      try {
        await scenarios[name](bootstrap)
        console.log(`ok ${name}`)
      } catch (error) {
        failed = true
        console.log(`FAIL ${name}: ${String(error.stack || error).replace(/\s+/g, ' ')}`)
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  process.exit(failed ? 1 : 0)
}

module.exports = { check, equal, eventually, main, refused, sleep, unique }
