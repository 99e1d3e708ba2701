/** The client library, which is installed only where Kafka is used. */
import { SluiceError } from '../../errors.ts'

export type KafkaLibrary = typeof import('@platformatic/kafka')

/** @throws SluiceError CONFIGURATION when it is not installed */
export async function loadKafka(
  load: () => Promise<KafkaLibrary> = () => import('@platformatic/kafka'),
): Promise<KafkaLibrary> {
  try {
    return await load()
  } catch (thrown) {
    const missing = thrown instanceof Error && 'code' in thrown && thrown.code === 'ERR_MODULE_NOT_FOUND'
    if (!missing) throw thrown
    throw new SluiceError(
      'CONFIGURATION',
      'Kafka is configured, and its client is not installed: npm install @platformatic/kafka',
      { cause: thrown },
    )
  }
}
