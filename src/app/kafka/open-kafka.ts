/**
 * Whether topics lie in Kafka: where SLUICE_KAFKA_BROKERS is set, or a connection `kafka` of kind `kafka` is configured, all of
 * them do. The variable wins over the brokers of the connection, whose TLS and credentials hold for both.
 */
import { type Connections, revealSettings } from '../../connectors/connections.ts'
import { KafkaClient } from '../../connectors/kafka/client.ts'
import { type KafkaSettings, kafkaSettings } from '../../connectors/kafka/settings.ts'
import type { Secrets } from '../../connectors/secrets.ts'
import type { Config } from '../config.ts'

const connection = 'kafka'

interface Configured {
  readonly connections: Connections
  readonly secrets: Secrets
}

/** Undefined: topics lie in the database. @throws SluiceError CONFIGURATION, SECRET_UNKNOWN */
export function kafkaSettingsOf(
  { kafkaBrokers }: Pick<Config, 'kafkaBrokers'>,
  { connections, secrets }: Configured,
): KafkaSettings | undefined {
  const given = connections.names.includes(connection)
    ? revealSettings(connections.get(connection, 'kafka'), secrets)
    : undefined
  if (kafkaBrokers === undefined && given === undefined) return undefined
  return kafkaSettings({ kind: 'kafka', ...given, ...(kafkaBrokers === undefined ? {} : { brokers: kafkaBrokers }) })
}

/** Connects to nothing yet: brokers that are down are told by who uses them. @throws SluiceError CONFIGURATION, SECRET_UNKNOWN */
export async function openKafka(
  config: Pick<Config, 'kafkaBrokers'>,
  configured: Configured,
  name: string,
): Promise<KafkaClient | undefined> {
  const settings = kafkaSettingsOf(config, configured)
  return settings && KafkaClient.open(settings, name)
}
