/** Whether the brokers of Kafka answer, and what was lost of its topics. */
import type { Version } from '../../app/build/build.ts'
import type { Database } from '../../ports/database.ts'
import { fail, ok, type Subject, type Told, warn } from './finding.ts'

export async function lookAtKafka({ config }: Subject, version: Version | undefined): Promise<Told[]> {
  const { parseConnections } = await import('../../connectors/connections.ts')
  const { openKafka } = await import('../../app/kafka/open-kafka.ts')
  const files = { ...version?.project.connections, ...config.connectionsFile }
  const connections = parseConnections(config.connectionVariables, files)
  const client = await openKafka(config, { connections, secrets: config.secrets }, 'doctor')
  if (client === undefined) return [ok('not configured: topics lie in the database')]
  try {
    const { kafkaCheck } = await import('../../app/kafka/kafka-check.ts')
    const { ok: answers, detail } = await kafkaCheck(client, () => 0)()
    if (answers) return [ok(`${client.brokers} answers`)]
    const fix = 'start it, or correct SLUICE_KAFKA_BROKERS or the connection kafka'
    return [fail(`${client.brokers}: ${detail}`, 'streams rest, and what is published waits in the outbox', fix)]
  } finally {
    await client.close()
  }
}

export async function lookAtOffsetGaps(database: Database): Promise<Told[]> {
  const { offsetGaps } = await import('../../store/kafka-shards.ts')
  return (await offsetGaps(database)).map(({ stream, gaps, lost }) =>
    warn(
      `${stream}: ${gaps} times, offsets of its topic in Kafka were gone when they were to be read, ${lost} in all`,
      'retention was quicker than the stream, or the topic was made anew',
      'keep records for longer, or give the stream more processes',
    ),
  )
}
