/** What a connection of kind `kafka` is configured with, or SLUICE_KAFKA_BROKERS alone. */
import { z } from 'zod'
import { SluiceError } from '../../errors.ts'

const brokersForm = 'host:port, several with commas between'
const broker = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+):([0-9]{1,5})$/i

/**
 * The brokers of `host:port,host:port`, the spaces around them left out.
 * @throws SluiceError CONFIGURATION, which does not quote the text: it may hold a password that was put there by mistake.
 */
export function parseBrokers(text: string): readonly string[] {
  const brokers = text
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
  const sound = brokers.every((one) => {
    const port = Number(broker.exec(one)?.[2])
    return port >= 1 && port <= 65_535
  })
  if (sound && brokers.length > 0) return brokers
  throw new SluiceError('CONFIGURATION', `The brokers of Kafka are not ${brokersForm}`)
}

const schema = z.strictObject({
  kind: z.literal('kafka'),
  brokers: z.string(),
  /** PEM texts; `true` trusts the authorities that Node knows. Default: no TLS. */
  tls: z
    .union([
      z.boolean(),
      z.strictObject({
        ca: z.string().optional(),
        cert: z.string().optional(),
        key: z.string().optional(),
        serverName: z.string().optional(),
      }),
    ])
    .default(false),
  sasl: z
    .strictObject({
      mechanism: z.enum(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512']),
      username: z.string().min(1),
      password: z.string().min(1),
    })
    .optional(),
  /** Copies of what is made here: topics. Default: what the brokers say. */
  replicas: z.number().int().min(1).max(32).optional(),
})

export interface KafkaSettings {
  readonly brokers: readonly string[]
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string; readonly serverName?: string }
  readonly sasl?: {
    readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'
    readonly username: string
    readonly password: string
  }
  /** Copies of the topics that are made; -1: what the brokers say. */
  readonly replicas: number
}

/**
 * Settings of a connection, its secrets revealed.
 * @throws SluiceError CONFIGURATION naming the setting and what is allowed, never its value
 */
export function kafkaSettings(settings: unknown): KafkaSettings {
  const parsed = schema.safeParse(settings)
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => `${path.join('/') || 'settings'}: ${message}`)
    throw new SluiceError('CONFIGURATION', `The connection to Kafka is not valid: ${faults.join('; ')}`)
  }
  const { brokers, tls, sasl, replicas } = parsed.data
  const { ca, cert, key, serverName } = typeof tls === 'object' ? tls : {}
  const given = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }), ...(serverName && { serverName }) }
  return {
    brokers: parseBrokers(brokers),
    ...(tls === false ? {} : { tls: given }),
    ...(sasl === undefined ? {} : { sasl }),
    replicas: replicas ?? -1,
  }
}
