import type { KafkaRecord, RecordsBatch } from '@platformatic/kafka'
import { compatibilityPartitioner } from '@platformatic/kafka'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { SluiceError } from '../../errors.ts'
import { isKafkaError, kafkaFault } from './faults.ts'
import { loadKafka } from './library.ts'
import { maxMessageBytes, type OutMessage, requestsOf, sizeOf } from './ordered-producer.ts'
import { partitionOf } from './partition.ts'
import { recordsFrom, sourceRecordOf } from './record.ts'
import { kafkaSettings, parseBrokers } from './settings.ts'
import { kafkaSink } from './sink.ts'

const record = (offsetDelta: number, value: Buffer | null, rest: Partial<KafkaRecord> = {}): KafkaRecord => ({
  ...{ length: 0, attributes: 0, timestampDelta: 0n, offsetDelta, key: null, value, headers: [] },
  ...rest,
})
const batch = (firstOffset: number, records: KafkaRecord[], rest: Partial<RecordsBatch> = {}): RecordsBatch => ({
  ...{ firstOffset: BigInt(firstOffset), length: 0, partitionLeaderEpoch: 0, magic: 2, crc: 0, attributes: 0 },
  ...{ lastOffsetDelta: (records.at(-1)?.offsetDelta ?? 0) as number, firstTimestamp: 0n, maxTimestamp: 0n },
  ...{ producerId: -1n, producerEpoch: 0, firstSequence: 0, records },
  ...rest,
})
const some = Buffer.from('1')
const ofTransaction = { attributes: 1 << 4, producerId: 7n }
const marker = (offset: number, type: 0 | 1) =>
  batch(offset, [record(0, null, { key: Buffer.from([0, 0, 0, type]) })], {
    attributes: (1 << 4) | (1 << 5),
    producerId: 7n,
  })
const offsets = (batches: RecordsBatch[], from = 0, aborted = [] as { producerId: bigint; firstOffset: bigint }[]) => {
  const { records, next } = recordsFrom(from, batches, aborted)
  return { offsets: records.map(({ offset }) => offset), next }
}

describe('the records of a fetch', () => {
  it('begin where they were asked for, and pass what compaction took', () => {
    const compacted = batch(10, [record(0, some), record(4, some)], { lastOffsetDelta: 9 })
    expect(offsets([compacted], 12)).toEqual({ offsets: [14], next: 20 })
    expect(offsets([batch(20, [], { lastOffsetDelta: 5 })], 20)).toEqual({ offsets: [], next: 26 })
    expect(offsets([], 3)).toEqual({ offsets: [], next: 3 })
  })

  it('leave out markers and what was aborted, also when the marker is not there yet', () => {
    const all = [
      batch(0, [record(0, some)], ofTransaction),
      marker(1, 0),
      batch(2, [record(0, some)], ofTransaction),
      marker(3, 1),
    ]
    expect(offsets(all, 0, [{ producerId: 7n, firstOffset: 0n }])).toEqual({ offsets: [2], next: 4 })
    expect(offsets(all.slice(0, 1), 0, [{ producerId: 7n, firstOffset: 0n }])).toEqual({ offsets: [], next: 1 })
    const other = batch(1, [record(0, some)], { attributes: 1 << 4, producerId: 8n })
    expect(offsets([all[0]!, other], 0, [{ producerId: 7n, firstOffset: 0n }])).toEqual({ offsets: [1], next: 2 })
  })
})

describe('a record', () => {
  const given = (value: Buffer | null, rest: Partial<KafkaRecord> = {}) =>
    sourceRecordOf('urls', 3, { offset: 5, timestamp: 0n, record: record(0, value, rest) })

  it('has the id of its header, else that of its place', () => {
    const header = (value: string | Buffer) => ({
      headers: [[Buffer.from('sluice-record-id'), Buffer.from(value as string)]] as [Buffer, Buffer][],
    })
    expect(given(some, header('order 7')).id).toBe('order 7')
    for (const none of ['', 'x'.repeat(1_001), 'a\0b']) expect(given(some, header(none)).id).toBe('urls-3-5')
    expect(given(some, header(Buffer.from([0xff]))).id).toBe('urls-3-5')
    expect(given(some).id).toBe('urls-3-5')
  })

  it('without a value is a tombstone, and one that is no UTF-8 is malformed', () => {
    expect(given(null).fault?.reason).toBe('tombstone')
    expect(given(Buffer.from([0xc3, 0x28])).fault).toEqual({
      reason: 'malformed',
      detail: 'It is not UTF-8; it begins with the bytes c328',
    })
    expect(given(Buffer.from('"€"'))).toMatchObject({ value: '"€"' })
    expect(given(Buffer.from('"€"')).fault).toBeUndefined()
  })
})

describe('the place of a key', () => {
  it('is where Java and the library place it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.integer({ min: 1, max: 256 }), (bytes, partitions) => {
        const expected = compatibilityPartitioner({} as never, Buffer.from(bytes)) % partitions
        expect(partitionOf(bytes, partitions)).toBe(expected)
      }),
    )
  })
})

describe('requests', () => {
  it('keep the order, and none is too large for a partition', () => {
    const message = fc.record({ partition: fc.nat(3), size: fc.integer({ min: 0, max: 400_000 }) })
    fc.assert(
      fc.property(fc.array(message, { maxLength: 40 }), (sizes) => {
        const messages = sizes.map(
          ({ partition, size }): OutMessage => ({
            topic: 't',
            partition,
            key: null,
            value: Buffer.alloc(size),
            headers: [],
          }),
        )
        const requests = requestsOf(messages)
        expect(requests.flat()).toEqual(messages)
        for (const request of requests) {
          for (const partition of [0, 1, 2, 3]) {
            const there = request.filter((one) => one.partition === partition)
            if (there.length > 1) expect(there.reduce((sum, one) => sum + sizeOf(one), 0)).toBeLessThanOrEqual(900_000)
          }
        }
      }),
      { numRuns: 30 },
    )
  })
})

describe('the settings', () => {
  it.each(['a:1', 'a:1,b:65535', ' a:1 , [::1]:9092 '])('take %s', (text) => {
    expect(parseBrokers(text).length).toBeGreaterThan(0)
  })

  it.each(['', ',', 'a', 'a:', 'a:0', 'a:65536', 'http://a:1', 'user:pass@a:1', 'a:1 b:2'])(
    'refuse %j, unquoted',
    (text) => {
      expect(() => parseBrokers(text)).toThrow('host:port, several with commas between')
      if (text.length > 3) expect(() => parseBrokers(text)).not.toThrow(text)
    },
  )

  it('name what is wrong, and no value', () => {
    const wrong = {
      kind: 'kafka',
      brokers: 'a:1',
      sasl: { mechanism: 'PLAN', username: 'anna', password: 4711 },
      ssl: true,
    }
    const thrown = (() => {
      try {
        return kafkaSettings(wrong)
      } catch (error) {
        return error as SluiceError
      }
    })() as SluiceError
    expect(thrown.code).toBe('CONFIGURATION')
    for (const part of ['sasl/mechanism', 'sasl/password', 'ssl']) expect(thrown.message).toContain(part)
    for (const secret of ['anna', '4711', 'PLAN"']) expect(thrown.message).not.toContain(secret)
  })
})

describe('faults', () => {
  it('say whether they pass', () => {
    const answer = Object.assign(new Error('no'), { apiId: 'TOPIC_AUTHORIZATION_FAILED' })
    expect(kafkaFault('x', new AggregateError([answer], 'group'))).toMatchObject({ code: 'CONFIGURATION' })
    expect(kafkaFault('x', new Error('connect ECONNREFUSED'))).toMatchObject({ code: 'UNAVAILABLE' })
    expect(isKafkaError(new Error('a', { cause: answer }), 'TOPIC_AUTHORIZATION_FAILED')).toBe(true)
  })

  it('say what to install', async () => {
    const gone = () => Promise.reject(Object.assign(new Error('gone'), { code: 'ERR_MODULE_NOT_FOUND' }))
    await expect(loadKafka(gone)).rejects.toThrow('npm install @platformatic/kafka')
    await expect(loadKafka(() => Promise.reject(new SyntaxError('broken')))).rejects.toThrow(SyntaxError)
  })
})

describe('the sink', () => {
  it('refuses a row that no broker takes', async () => {
    const sink = kafkaSink({
      topic: 't',
      producer: undefined as never,
      partitions: () => Promise.resolve(1),
      prepare: (row) => ({ key: 'k', body: row as string, bytes: [], size: 1 }),
    })
    expect(await sink.prepare('x'.repeat(maxMessageBytes))).toMatchObject({ reason: 'record too large' })
    expect(await sink.prepare('x')).toMatchObject({ body: 'x' })
  })
})
