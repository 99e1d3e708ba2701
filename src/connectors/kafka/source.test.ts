import { randomUUID } from 'node:crypto'
import { named, sharedBrokers, withoutKafka } from '../../../test/services/broker.ts'
import { describeSource } from '../../../test/source-conformance.ts'
import { KafkaClient } from './client.ts'
import { OrderedProducer } from './ordered-producer.ts'
import { partitionOf } from './partition.ts'
import { parseBrokers } from './settings.ts'
import { outMessage } from './sink.ts'
import { kafkaSource } from './source.ts'

const keyIn = (partition: number): string =>
  Array.from({ length: 100 }, (_, index) => `key-${index}`).find(
    (key) => partitionOf(Buffer.from(key), 2) === partition,
  )!

describeSource(
  named('Kafka'),
  async () => {
    const client = await KafkaClient.open({ brokers: parseBrokers(await sharedBrokers()), replicas: 1 }, 'test')
    const topic = `source-${randomUUID()}`
    await client.ensureTopic(topic, 2)
    const producer = new OrderedProducer(client)
    return {
      source: kafkaSource(client, topic),
      keys: [keyIn(0), keyIn(1)],
      append: (records) => producer.send(records.map((record) => outMessage(topic, record, 2))),
      async close() {
        await producer.close()
        await client.close()
      },
    }
  },
  withoutKafka,
)
