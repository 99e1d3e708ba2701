/** Bytes: what is referred to is there, whole; what nobody needs goes away. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { statement } from '../../src/ports/database.ts'
import { always, type Invariant, type Snapshot } from './breach.ts'

/** The sweep waits a day; an hour later what is stale has had its turn. */
const defaultSweepGraceMs = 25 * 3_600_000

export const objectInvariants: readonly Invariant[] = [
  /** 12. A reference names an object, and is named by something that is there. */
  always(
    12,
    'objects.references',
    `select format('%s %s refers to object %s: %s', r.referrer_kind, r.referrer_id, encode(r.sha256, 'hex'),
       case when o.sha256 is null then 'there is no such object' else 'the referrer is not there' end) as what
     from sluice.object_refs r left join sluice.objects o on o.sha256 = r.sha256
     where o.sha256 is null
       or (r.referrer_kind = 'run' and not exists (select from sluice.runs n where n.id::text = r.referrer_id))
       or (r.referrer_kind = 'document' and not exists (
         select from (select collection || '/' || key as name from sluice.documents) d where d.name = r.referrer_id))`,
  ),

  /** 12. Whatever names an object has its reference: results of tasks and byte fields of documents. */
  always(
    12,
    'objects.named',
    `with named as (
       select 'run' as kind, run_id::text as id, substring(result from '^\\{"\\$object":"([0-9a-f]{64})","bytes":[0-9]+\\}$') as sha256
       from sluice.tasks where result like '{"$object":"%'
       union all
       select 'document', collection || '/' || key, object from sluice.document_bytes where object is not null
     )
     select format('%s %s names object %s and has no reference to it', n.kind, n.id, n.sha256) as what
     from named n
     where n.sha256 is not null and not exists (
       select from sluice.object_refs r where r.referrer_kind = n.kind and r.referrer_id = n.id and r.sha256 = decode(n.sha256, 'hex'))`,
  ),

  /** 12. The sweep will come to each object that nothing refers to, after its last claim. */
  always(
    12,
    'objects.idle',
    `select format('object %s (%s references, claims up to %s) is idle since %s', encode(o.sha256, 'hex'), refs, claims, coalesce(o.idle_since::text, 'never')) as what
     from sluice.objects o,
       lateral (select count(*) as refs from sluice.object_refs r where r.sha256 = o.sha256) r,
       lateral (select max(c.expires_at) as claims from sluice.object_claims c where c.sha256 = o.sha256) c
     where (refs = 0 and o.idle_since is null) or (claims is not null and (o.idle_since is null or o.idle_since < claims))`,
  ),

  /** 12. What was swept with a grace is gone: nothing idle is left that nobody needs. */
  always(
    12,
    'objects.swept',
    `select format('object %s is idle since %s, and nothing claims or refers to it', encode(o.sha256, 'hex'), o.idle_since) as what
     from sluice.objects o
     where o.idle_since < sluice.sluice_now() - $1 * interval '1 ms'
       and not exists (select from sluice.object_refs r where r.sha256 = o.sha256)
       and not exists (select from sluice.object_claims c where c.sha256 = o.sha256 and c.expires_at > sluice.sluice_now() - $1 * interval '1 ms')`,
    ({ sweepGraceMs = defaultSweepGraceMs }) => [sweepGraceMs],
  ),

  /** 12. Byte fields belong to a document and have the size that they say. */
  always(
    12,
    'documents.bytes',
    `select format('the field %s of %s/%s says %s bytes and has %s; the document is %s', b.field, b.collection, b.key, b.size,
       octet_length(b.bytes), case when d.key is null then 'not there' else 'there' end) as what
     from sluice.document_bytes b left join sluice.documents d using (collection, key)
     where d.key is null or b.size <> coalesce(octet_length(b.bytes), b.size)`,
  ),

  { number: 12, when: 'always', find: missingBytes },
  { number: 12, when: 'at rest', find: strayFiles },
]

interface Needed {
  readonly sha256: string
  readonly bytes: number
}

const neededStatement = statement<Needed>(
  'invariant.objects.needed',
  `select encode(o.sha256, 'hex') as sha256, o.bytes from sluice.objects o
   where exists (select from sluice.object_refs r where r.sha256 = o.sha256)
     and ($1::text[] is null or encode(o.sha256, 'hex') = any ($1))
   order by o.sha256`,
)

/** At rest bytes are hashed again up to this sum; beyond it, and during faults, their number is looked at. */
const mostHashedBytes = 256 * 1024 * 1024

/** 12. The bytes of every object that something refers to are there, as many as its row says, under their hash. */
async function missingBytes({ session, now, options }: Snapshot): Promise<string[]> {
  const { objects } = options
  if (objects === undefined) return []
  const faults = new Map<string, string>()
  let hashed = 0
  for (const { sha256, bytes } of await session.query(neededStatement, [null])) {
    const found = await objects.stat(sha256)
    if (found === undefined) faults.set(sha256, `object ${sha256} is referred to, and its bytes are not there`)
    else if (found.bytes !== bytes) faults.set(sha256, `object ${sha256} has ${found.bytes} bytes instead of ${bytes}`)
    else if (options.atRest && hashed < mostHashedBytes) {
      hashed += bytes
      await objects.read(sha256).catch((thrown: Error) => faults.set(sha256, `object ${sha256}: ${thrown.message}`))
    }
  }
  if (faults.size === 0) return []
  // The snapshot is older than the look at the bytes: what nobody refers to any more may have been swept since.
  const still = await now.query(neededStatement, [[...faults.keys()]])
  return still.map(({ sha256 }) => faults.get(sha256)!)
}

const rowsStatement = statement<{ sha256: string }>(
  'invariant.objects.rows',
  `select encode(sha256, 'hex') as sha256 from sluice.objects where encode(sha256, 'hex') = any ($1::text[])`,
)

/** 12. At rest every stored object has its row, and no interrupted put or build has left anything behind for long. */
async function strayFiles({ now, options }: Snapshot): Promise<string[]> {
  const { objects, home, sweepGraceMs = defaultSweepGraceMs } = options
  const found: string[] = []
  const stored: string[] = []
  if (objects !== undefined) for await (const sha256 of objects.list()) stored.push(sha256)
  const known = new Set((await now.query(rowsStatement, [stored])).map((row) => row.sha256))
  for (const sha256 of stored) if (!known.has(sha256)) found.push(`object ${sha256} is stored and has no row`)
  if (home === undefined) return found
  const temporary = join(home, 'objects/tmp')
  for (const name of await readdir(temporary).catch(() => [])) {
    const file = await stat(join(temporary, name)).catch(() => undefined)
    if (file && file.mtimeMs < Date.now() - sweepGraceMs) found.push(`${join(temporary, name)} was left by a put`)
  }
  return found
}
