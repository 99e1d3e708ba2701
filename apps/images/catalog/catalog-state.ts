/** What is remembered of a catalog, and what of another version of it is new. */
import { emptyPrefix, type Prefix } from './catalog-lines.ts'

/** A catalog as it is kept, in the collection `catalogs` under its name. */
export interface CatalogState {
  readonly name: string
  /** sha256 of all bytes: the object that was read last. */
  readonly version: string
  readonly bytes: number
  /** Lines that count; `blank` ones of them are no records, `malformed` ones are, and end rejected. */
  readonly lines: number
  readonly blank: number
  readonly malformed: number
  /** Grows when a part that was processed has changed, or everything is asked for again: all lines are then received again. */
  readonly generation: number
  readonly prefix: CountedPrefix
  /** A last line without LF that counts; null when there is none. */
  readonly tail: string | null
  /** True when a last line without LF does not count yet, since the file was still changing. */
  readonly unfinished: boolean
  /** The last versions, newest first: objects by their hash. */
  readonly versions: readonly { readonly sha256: string; readonly bytes: number; readonly at: string }[]
  /** RFC 3339, UTC. */
  readonly insertedAt: string
  readonly updatedAt: string
}

export interface CountedPrefix extends Prefix {
  readonly blank: number
  readonly malformed: number
}

export const nothingRead: CountedPrefix = { ...emptyPrefix, blank: 0, malformed: 0 }

const keptVersions = 20

/** What a run reads. Decided once, also when its attempt is tried again. */
export interface ReadingPlan {
  readonly generation: number
  /** Reading begins behind it. */
  readonly from: CountedPrefix
  /** The line behind it, where that was received already. */
  readonly tail: string | null
  readonly unchanged: boolean
}

export interface Arrived {
  readonly sha256: string
  /** Whether a last line without LF counts. */
  readonly rested: boolean
  readonly refresh: boolean
}

/** @param startsWith whether the arrived bytes start with a prefix; asked only when that matters. */
export async function planReading(
  known: CatalogState | undefined,
  { sha256, rested, refresh }: Arrived,
  startsWith: (prefix: Prefix) => Promise<boolean>,
): Promise<ReadingPlan> {
  const afresh = (generation: number) => ({ generation, from: nothingRead, tail: null, unchanged: false })
  if (known === undefined) return afresh(1)
  const { generation, prefix, tail } = known
  if (refresh) return afresh(generation + 1)
  const goOn = { generation, from: prefix, tail, unchanged: false }
  if (known.version === sha256) return { ...goOn, unchanged: !(known.unfinished && rested) }
  return (await startsWith(prefix)) ? goOn : afresh(generation + 1)
}

/** What reading has found, as it is remembered with what was known before. */
export function stateAfter(
  known: CatalogState | undefined,
  found: Pick<CatalogState, 'name' | 'version' | 'bytes' | 'generation' | 'prefix' | 'tail' | 'unfinished'> & {
    /** Of the tail. */
    readonly tailMalformed: boolean
  },
  at: string,
): CatalogState {
  const { tailMalformed, ...rest } = found
  const { prefix, tail, version, bytes } = found
  const before = known?.versions.filter(({ sha256 }) => sha256 !== version) ?? []
  return {
    ...rest,
    lines: prefix.lines + (tail === null ? 0 : 1),
    blank: prefix.blank + (tail === '' ? 1 : 0),
    malformed: prefix.malformed + (tailMalformed ? 1 : 0),
    versions: [{ sha256: version, bytes, at }, ...before].slice(0, keptVersions),
    insertedAt: known?.insertedAt ?? at,
    updatedAt: at,
  }
}
