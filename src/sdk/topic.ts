import { checkName } from './name.ts'
import type { Schema } from './schema.ts'

export interface TopicOptions<Record, Input = Record> {
  readonly schema: Schema<Record, Input>
  /** Records with equal keys stay in order: they share a partition. Default: no key, spread evenly. */
  readonly key?: (record: Record) => string
  /** 1 to 256; default 1. It can grow later; records already published stay where they are. */
  readonly partitions?: number
}

/** A durable log of records with gapless offsets per partition. */
export interface Topic<Record = unknown> {
  readonly kind: 'topic'
  readonly name: string
  readonly schema: Schema<Record>
  readonly key: ((record: Record) => string) | undefined
  readonly partitions: number
}

/** @throws SluiceError DEFINITION_INVALID */
export function topic<Record, Input = Record>(name: string, options: TopicOptions<Record, Input>): Topic<Record> {
  checkName('topic', name)
  return {
    kind: 'topic',
    name,
    schema: options.schema as Schema<Record>,
    key: options.key,
    partitions: options.partitions ?? 1,
  }
}
