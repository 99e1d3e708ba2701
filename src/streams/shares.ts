/** How many shards a process is to hold: of all streams together, and of each that says how many items a process takes. */
import { producerShare, producersWanted } from '../core/producers.ts'
import type { Session } from '../ports/database.ts'
import type { Stream } from '../sdk/stream.ts'
import { type Beat, beat, streamProducers } from '../store/shards.ts'

/** At most `share` shards of these streams together. */
export interface Share {
  readonly streams: readonly string[]
  readonly share: number
}

/** Says that the process lives, and gives its shares. */
export async function beatForShares(
  session: Session,
  process: Omit<Beat, 'streams'>,
  streams: readonly Stream[],
): Promise<Share[]> {
  const perProducer = new Map<string, number>()
  for (const {
    name,
    options: { from },
  } of streams)
    if (from.kind === 'timer' && from.perProducer !== undefined) perProducer.set(name, from.perProducer)
  const others = streams.map(({ name }) => name).filter((name) => !perProducer.has(name))
  const share = await beat(session, { ...process, streams: others })
  const limited = await streamProducers(session, [...perProducer.keys()])
  return [
    { streams: others, share },
    ...limited.map(({ stream, shards, items, living }) => {
      const wanted = producersWanted(items, perProducer.get(stream)!)
      return { streams: [stream], share: producerShare(process.id, { shards, wanted, living }) }
    }),
  ]
}
