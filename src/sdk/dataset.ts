/** Datasets: what workflows write, as versions that never change. */
import { SluiceError } from '../errors.ts'

export interface DatasetOptions {
  /** One sentence for people; at most 1,000 characters. */
  readonly doc?: string
}

export interface Dataset {
  readonly kind: 'dataset'
  readonly name: string
  readonly doc: string | undefined
}

const allowed = /^[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*$/
const longest = 120

/** Names a dataset, such as `prim.orders`. @throws SluiceError DEFINITION_INVALID */
export function dataset(name: string, options: DatasetOptions = {}): Dataset {
  checkDatasetName(name)
  const { doc } = options
  if (doc !== undefined && (typeof doc !== 'string' || doc.length > 1_000)) {
    throw new SluiceError('DEFINITION_INVALID', `doc of dataset ${name} must be a text of at most 1,000 characters`)
  }
  return { kind: 'dataset', name, doc }
}

/** @throws SluiceError DEFINITION_INVALID */
export function checkDatasetName(name: unknown): asserts name is string {
  if (typeof name === 'string' && name.length <= longest && allowed.test(name)) return
  throw new SluiceError(
    'DEFINITION_INVALID',
    `${JSON.stringify(name)} is not a name for a dataset; use a-z, 0-9 and single . - or _ inside, starting with a letter, at most ${longest} characters, such as prim.orders`,
  )
}

/** One version of a dataset. */
export interface DatasetVersion {
  /** From 1, without gaps. */
  readonly version: number
  /** sha256 in hex; absent where its writer gave none. */
  readonly sha256?: string
  /** The objects that hold it, in their order: see `Objects.open`. */
  readonly objects: readonly string[]
  readonly rows?: number
  readonly metadata?: unknown
}

export interface DatasetContent {
  /**
   * What the content hashes to, in lower-case hex, wherever it lies. Left out: of one object its own hash, of several the
   * hash of their hashes, one a line.
   */
  readonly sha256?: string
  /** Objects of the store that hold it, in their order, 10,000 at most; kept as long as the version is. */
  readonly objects?: readonly string[]
  /** How many rows it has. */
  readonly rows?: number
  /** JSON of at most 64 KiB. */
  readonly metadata?: unknown
}

/** A dataset as an attempt sees it. */
export interface DatasetAccess {
  /**
   * The latest version, the same at every call of the attempt; undefined when there is none yet. With a number: that version.
   * @throws SluiceError NOT_FOUND when there is no such version.
   */
  read(): Promise<DatasetVersion | undefined>
  read(version: number): Promise<DatasetVersion>
  /**
   * Writes a new version. Nobody sees it, and no plan fires, before this attempt has succeeded; if it does not, the version
   * never was. At most 1,000 an attempt, and not inside `step`, which a later attempt would not run again.
   * @throws SluiceError INVALID_INPUT, OBJECT_NOT_FOUND, USAGE
   */
  write(content?: DatasetContent): Promise<void>
}
