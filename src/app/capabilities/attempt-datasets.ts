/** Datasets as an attempt sees them. */
import { createHash } from 'node:crypto'
import { SluiceError } from '../../errors.ts'
import {
  checkDatasetName,
  type Dataset,
  type DatasetAccess,
  type DatasetContent,
  type DatasetVersion,
} from '../../sdk/dataset.ts'
import type { DatasetVersionRow, DatasetWrite } from '../../store/lineage.ts'
import type { AttemptCalls } from './calls.ts'
import type { Effects } from './effects.ts'

const mostWrites = 1_000
const mostObjects = 10_000
const mostMetadata = 64 * 1024
const hashForm = /^[0-9a-f]{64}$/

export interface AttemptDatasetsParts {
  readonly calls: Pick<AttemptCalls, 'readDataset' | 'writeDataset'>
  readonly effects: Effects
  /** Whether what runs now is the work of a durable step. */
  readonly inStep: () => boolean
}

export function attemptDatasets({ calls, effects, inStep }: AttemptDatasetsParts): (dataset: Dataset) => DatasetAccess {
  /** The latest version is asked for once, so that an attempt sees one state of each dataset. */
  const latest = new Map<string, Promise<DatasetVersionRow | undefined>>()
  let writes = 0
  const readLatest = (name: string) => {
    const known = latest.get(name) ?? calls.readDataset(name, null)
    latest.set(name, known)
    known.catch(() => latest.delete(name))
    return known
  }
  return ({ name, doc }) => {
    checkDatasetName(name)
    async function read(version?: number) {
      if (version !== undefined) checkVersion(name, version)
      const row = await (version === undefined ? readLatest(name) : calls.readDataset(name, version))
      effects.note('read', 'dataset', name, row?.version ?? version ?? 0, row?.hash ?? null)
      if (version === undefined) effects.note('read', 'latest', name, row?.version ?? 0, null)
      if (row === undefined && version !== undefined) throw missing(name, version)
      return row && shown(row)
    }
    return {
      read: read as DatasetAccess['read'],
      async write(content = {}) {
        if (inStep()) {
          throw new SluiceError(
            'USAGE',
            `dataset ${name} is written inside a durable step, which a later attempt does not run again; write it after the step`,
          )
        }
        if (writes >= mostWrites)
          throw invalid(name, `an attempt can write ${mostWrites} versions, and this is one more`)
        writes += 1
        await calls.writeDataset(writeOf(name, doc, writes - 1, content))
      },
    }
  }
}

function shown({ version, hash, objects, rows, metadata }: DatasetVersionRow): DatasetVersion {
  return {
    version,
    ...(hash === null ? {} : { sha256: hash }),
    objects,
    ...(rows === null ? {} : { rows }),
    ...(metadata === null ? {} : { metadata }),
  }
}

/** @throws SluiceError INVALID_INPUT */
function writeOf(dataset: string, doc: string | undefined, position: number, content: DatasetContent): DatasetWrite {
  const { sha256, objects = [], rows, metadata } = content
  if (sha256 !== undefined && !isHash(sha256)) throw invalid(dataset, 'sha256 must be 64 lower-case hex digits')
  if (!Array.isArray(objects) || objects.length > mostObjects || !objects.every(isHash)) {
    throw invalid(dataset, `objects must be a list of at most ${mostObjects} hashes (64 lower-case hex digits)`)
  }
  if (rows !== undefined && !(Number.isSafeInteger(rows) && rows >= 0)) {
    throw invalid(dataset, 'rows must be a whole number that is not negative')
  }
  const text = jsonOf(dataset, metadata)
  if (text !== null && Buffer.byteLength(text) > mostMetadata) {
    throw invalid(dataset, `metadata has ${Buffer.byteLength(text)} bytes as JSON; at most ${mostMetadata} are kept`)
  }
  const hash = sha256 ?? hashOf(objects)
  return { dataset, doc: doc ?? null, position, hash, objects, rows: rows ?? null, metadata: text }
}

function hashOf(objects: readonly string[]): string | null {
  if (objects.length <= 1) return objects[0] ?? null
  return createHash('sha256')
    .update(objects.map((sha256) => `${sha256}\n`).join(''))
    .digest('hex')
}

function jsonOf(dataset: string, metadata: unknown): string | null {
  if (metadata === undefined || metadata === null) return null
  try {
    const text = JSON.stringify(metadata) as string | undefined
    if (text !== undefined) return text
  } catch {
    // Said below.
  }
  throw invalid(dataset, 'metadata must be JSON')
}

function isHash(value: unknown): value is string {
  return typeof value === 'string' && hashForm.test(value)
}

function checkVersion(name: string, version: unknown): void {
  if (Number.isSafeInteger(version) && (version as number) >= 1) return
  throw invalid(name, `a version is a whole number from 1 on, and ${JSON.stringify(version)} is none`)
}

function missing(name: string, version: number): SluiceError {
  return new SluiceError('NOT_FOUND', `dataset ${name} has no version ${version}, or has it no more`)
}

function invalid(name: string, message: string): SluiceError {
  return new SluiceError('INVALID_INPUT', `dataset ${name}: ${message}`)
}
