import { testDatabase } from '../../test/database.ts'
import { describeSource } from '../../test/source-conformance.ts'
import { append, ensureTopic, partitionOf, topicSource } from './topics.ts'

const keyIn = (partition: number): string =>
  Array.from({ length: 100 }, (_, index) => `key-${index}`).find((key) => partitionOf(key, 2) === partition)!

describeSource('tables', async () => {
  const { db, drop } = await testDatabase()
  await ensureTopic(db, 'numbers', 2)
  const wakes = new Set<() => void>()
  // Whoever hears the notifications wakes the shards.
  const silence = await db.listen('sluice_topic', () => {
    for (const wake of wakes) wake()
  })
  const source = topicSource(db, 'numbers')
  return {
    source: {
      open(partition, from, wake) {
        wakes.add(wake)
        const reader = source.open(partition, from, wake)
        const close = async () => {
          wakes.delete(wake)
          await reader.close()
        }
        return { ...reader, close }
      },
    },
    keys: [keyIn(0), keyIn(1)],
    append: async (records) => {
      await db.transaction((session) => append(session, 'numbers', records))
    },
    async close() {
      await silence()
      await drop()
    },
  }
})
