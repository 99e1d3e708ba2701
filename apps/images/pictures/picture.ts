/** A picture as it is kept, in the collection `images`. */

export interface Source {
  readonly url: string
  readonly catalog: string
  readonly line: number
}

export interface Derived {
  readonly name: string
  readonly version: number
  readonly mimeType: string
  readonly sha256: string
}

/** Everything but `image`, which is bytes. */
export interface PictureFacts {
  /** sha256 of the raw bytes: the same bytes are the same picture, wherever they come from. */
  readonly id: string
  /** Of `image`. */
  readonly mimeType: string
  readonly rawMimeType: string
  /** Frames or pages that the raw picture has; `image` shows the first. Absent in documents of before it was counted. */
  readonly frames?: number
  /** Of `image`, in pixels. */
  readonly width: number
  readonly height: number
  /** How many the raw picture has. */
  readonly bytes: number
  /** Every URL and catalog line that led to it, in the order of their ends, as far as `maxSourcesBytes` go. */
  readonly sources: readonly Source[]
  /** How many more lines led to it. The ledger of the stream has each, as a duplicate. */
  readonly sourcesOmitted: number
  /** RFC 3339, UTC. */
  readonly insertedAt: string
  readonly fetchedAt: string
  readonly transform: { readonly name: string; readonly version: number }
  /** Objects of the store. `image` is kept in the document. */
  readonly rawSha256: string
  readonly imageSha256: string
  readonly derived: readonly Derived[]
  /** 16 hex digits; advisory, never a reason to remove anything. Null where the transform gives none. */
  readonly perceptualHash: string | null
  readonly http: {
    readonly status: number
    /** After redirects. */
    readonly url: string
    readonly redirects: number
    readonly contentType: string | null
    readonly etag: string | null
    readonly lastModified: string | null
    readonly totalMs: number
    readonly firstByteMs: number
  }
  /**
   * `warning`: the decoder gave all pixels, and complained of what `warning` says. `corrupt`: verification found the raw bytes
   * damaged in the store, as `warning` says.
   */
  readonly state: 'ok' | 'warning' | 'corrupt'
  readonly warning: string | null
}

export interface Picture extends PictureFacts {
  readonly image: Uint8Array
}

/** JSON of `sources` at most: about 10,000 lines of common length. A document takes 1 MiB. */
export const maxSourcesBytes = 786_432
/** Fewer sources than this need not be measured: each has one line, of `maxLineBytes` at most. */
const surelyFits = 80

/** A record that led to a picture that is there. Taking the same again changes nothing. */
export function addSource(document: PictureFacts, { url, catalog, line }: Source): PictureFacts {
  const { sources } = document
  if (sources.some((known) => known.line === line && known.catalog === catalog && known.url === url)) return document
  const more = [...sources, { url, catalog, line }]
  if (more.length > surelyFits && Buffer.byteLength(JSON.stringify(more)) > maxSourcesBytes) {
    return { ...document, sourcesOmitted: document.sourcesOmitted + 1 }
  }
  return { ...document, sources: more }
}

type Named = Pick<Derived, 'name' | 'version'>

const isSame = (one: Named, other: Named) => one.name === other.name && one.version === other.version

/** The transforms of which a document has nothing. */
export function lacking<Transform extends Named>(
  { transform, derived }: Pick<PictureFacts, 'transform' | 'derived'>,
  transforms: readonly Transform[],
): Transform[] {
  return transforms.filter((one) => !isSame(one, transform) && !derived.some((entry) => isSame(entry, one)))
}

/** With this entry, in the place of one of the same name and version, or else at the end. */
export function withDerived<Document extends Pick<PictureFacts, 'derived'>>(
  document: Document,
  entry: Derived,
): Document {
  const known = document.derived.some((one) => isSame(one, entry))
  const derived = known
    ? document.derived.map((one) => (isSame(one, entry) ? entry : one))
    : [...document.derived, entry]
  return { ...document, derived }
}

/** The objects that a document names. */
export function objectsOf({ rawSha256, derived }: Pick<PictureFacts, 'rawSha256' | 'derived'>): Set<string> {
  return new Set([rawSha256, ...derived.map(({ sha256 }) => sha256)])
}
