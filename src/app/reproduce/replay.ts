/**
 * What attempts that are reproduced may do: they find what they found when they ran, and what they write is kept here to be
 * compared, nowhere else.
 */
import type { Made, Noted, NotedVersion, RanTask } from '../../core/reproduce.ts'
import { SluiceError } from '../../errors.ts'
import type { ObjectInfo } from '../../ports/objects.ts'
import type { DatasetVersionRow } from '../../store/lineage.ts'
import type { AttemptCalls } from '../capabilities/calls.ts'

/** What one attempt has written. */
export interface Written {
  notes: readonly Noted[]
  readonly versions: NotedVersion[]
}

export interface ReplayParts {
  readonly task: RanTask
  /** The attempt's time where it never asked for it. */
  readonly anyTime: number
  readonly readVersion: (name: string, version: number) => Promise<DatasetVersionRow | undefined>
  readonly written: Written
}

export function replayCalls({ task, anyTime, readVersion, written }: ReplayParts): AttemptCalls {
  const read = (what: string) => task.notes.filter((note) => note.kind === 'read' && note.what === what)
  const otherwise = (did: string) => () => Promise.reject(new SluiceError('CONFLICT', `it ${did}, and did not then`))
  return {
    claimObject: async () => {},
    putDocument: async () => {},
    publish: async (_, records) => ({ published: records.length, known: 0 }),
    readStep: async () => undefined,
    writeStep: async () => {},
    async readDataset(name, wanted) {
      const noted = read(wanted === null ? 'latest' : 'dataset').filter((note) => note.name === name)
      const version = wanted === null ? noted[0]?.version : noted.find((note) => note.version === wanted)?.version
      if (version === undefined || version === null) {
        throw new SluiceError(
          'CONFLICT',
          `it read ${wanted ?? 'the latest version'} of dataset ${name}, and did not then`,
        )
      }
      return version === 0 ? undefined : readVersion(name, version)
    },
    async writeDataset({ dataset, hash, rows, metadata }) {
      written.versions.push({ dataset, hash, rows, metadata })
    },
    async noteLineage(notes) {
      written.notes = notes
    },
    recalled: async () => ({ now: read('clock')[0]?.version ?? anyTime, files: filesOf(read('file')) }),
    getDocument: otherwise('read documents'),
    revisedDocument: otherwise('read documents'),
    replaceDocument: otherwise('changed documents'),
    listDocuments: otherwise('read documents'),
    countDocuments: otherwise('read documents'),
    storedFields: otherwise('read documents'),
    connectionSettings: otherwise('used a connection'),
    secretText: otherwise('read a secret'),
  }
}

function filesOf(notes: readonly Noted[]): Record<string, ObjectInfo> {
  return Object.fromEntries(
    notes.flatMap(({ name, hash, version }) =>
      hash === null ? [] : [[name, { sha256: hash, bytes: version ?? 0 }] as const],
    ),
  )
}

export const nothingWritten = (): Written => ({ notes: [], versions: [] })

export function madeOf(result: string | undefined, { notes, versions }: Written, error?: string): Made {
  return { result, notes, versions, ...(error === undefined ? {} : { error }) }
}
