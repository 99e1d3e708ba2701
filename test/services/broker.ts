/** For tests that need Kafka: the broker of the run, or one of their own that they may stop and kill. */
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { inject } from 'vitest'
import { findKafka, isMissing } from './found.ts'
import { Broker, type BrokerOptions } from './kafka.ts'

/** A broker that is there already, of a developer or of `with-services`. */
const given = process.env.SLUICE_TEST_KAFKA_BROKERS
const found = findKafka()
const missing = isMissing(found) ? found.missing : undefined

/** A test file that is to be skipped says this: `describe.skipIf(withoutKafka)(named('streams'), ...)`. */
export const withoutKafka = given === undefined && missing !== undefined
/** As above, of tests that stop the broker: one that was given is not theirs. */
export const withoutOwnKafka = missing !== undefined

if (missing !== undefined && process.env.REQUIRE_SERVICES === '1') {
  throw new Error(`REQUIRE_SERVICES=1, and Kafka is not to be had: ${missing}`)
}

/** The name of a group of tests, with the reason when they are skipped. */
export const named = (name: string): string =>
  missing === undefined ? name : `${name} (skipped without Kafka: ${missing})`

/** host:port of the broker that all tests of a run share: use topics of names of your own. */
export async function sharedBrokers(): Promise<string> {
  if (given !== undefined) return given
  const socket = connect(inject('kafkaSocket'))
  const answer: { brokers?: string; fault?: string } = JSON.parse(await text(socket))
  if (answer.brokers === undefined) throw new Error(`Kafka is not to be had: ${answer.fault}`)
  return answer.brokers
}

/** A broker of the test's own: `remove()` it at the end. */
export function ownBroker(options?: BrokerOptions): Promise<Broker> {
  if (isMissing(found)) throw new Error(found.missing)
  return Broker.start(found, options)
}
