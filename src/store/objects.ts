/**
 * Who may need which stored bytes: claims (expiring), references (lasting), and the sweep that removes the rest.
 *
 * How a put and a sweep of the same bytes cannot harm each other:
 * 1. A put commits its claim, and only then looks whether the file is there; it writes it when it is not.
 * 2. Claiming locks the row of the object (insert, or update on conflict) until the claim commits. Referring and
 *    releasing lock it too, against deletion. All of them lock the objects of a batch in the order of their hashes.
 * 3. The sweep locks the rows of idle objects, passing by those that are locked (so it waits for nobody), then reads
 *    their claims and references in a later statement, whose snapshot has whatever committed before the lock.
 * 4. In the transaction that holds these locks the sweep deletes the rows, then removes the files, then commits.
 *
 * So a claim either committed before the lock: the sweep sees it and keeps the object. Or it waits for the sweep to
 * commit, inserts a new row, and the put finds no file and writes it again. A sweep that dies after removing files
 * rolls back to rows without files: a put writes the file again (1), and nobody can refer to it without having put it,
 * since a reference needs a live claim or another reference. A sweep begins `graceMs` after the last claim ended or the last
 * reference was released; the grace is for readers that are still reading, and longer than any claim or reference waits.
 * A file without a row (a put that slept through its claim and grace, a removal undone by a power cut) is given a row
 * by `adoptObjects`, and goes the ordinary way.
 *
 * The clock is read as `(select sluice.sluice_now())`, once per statement: it is volatile, and no index would serve it.
 */
import { SluiceError } from '../errors.ts'
import { type Database, type Session, statement } from '../ports/database.ts'
import type { ObjectInfo, ObjectStore } from '../ports/objects.ts'
import { withoutBackup } from './backup.ts'

/** What names an object: `kind` is the sort of thing (such as `task`, `catalog`), `id` which one. */
export interface ObjectReference {
  readonly sha256: string
  readonly kind: string
  readonly id: string
}

const claimStatement = statement(
  'objects.claim',
  `
  with wanted as (
    select distinct on (hex) decode(hex, 'hex') as sha256, bytes, (select sluice.sluice_now()) + $4 * interval '1 ms' as expires_at
    from unnest($1::text[], $2::bigint[]) as given (hex, bytes)
  ), object as (
    insert into sluice.objects as o (sha256, bytes, idle_since)
    select sha256, bytes, expires_at from wanted order by sha256
    on conflict (sha256) do update set idle_since = greatest(o.idle_since, excluded.idle_since)
    returning o.sha256
  )
  insert into sluice.object_claims as c (sha256, claimant, expires_at)
  select object.sha256, $3::text, wanted.expires_at from object join wanted using (sha256)
  on conflict (sha256, claimant) do update set expires_at = greatest(c.expires_at, excluded.expires_at)`,
)

/**
 * Claims objects for `claimant` (an attempt, a shard, a request) during `claimMs` milliseconds; a later claim of the
 * same claimant prolongs the first. To be committed before the object becomes visible.
 */
export async function claimObjects(
  session: Session,
  claimant: string,
  objects: readonly ObjectInfo[],
  claimMs: number,
): Promise<void> {
  if (objects.length === 0) return
  const hashes = objects.map((object) => object.sha256)
  await session.execute(claimStatement, [hashes, objects.map((object) => object.bytes), claimant, claimMs])
}

/**
 * The `claim` of `ObjectStore.put` for many puts at once: what gathered while the last claims were being written is
 * the next write. Each call returns after its claim is committed.
 */
export function groupedClaims(
  database: Session,
  claimant: string,
  claimMs: number,
): (object: ObjectInfo) => Promise<void> {
  let writing: Promise<void> = Promise.resolve()
  let gathered: { readonly objects: ObjectInfo[]; readonly written: Promise<void> } | undefined

  return (object) => {
    if (gathered === undefined) {
      const objects: ObjectInfo[] = []
      const written = writing.then(() => {
        gathered = undefined
        return claimObjects(database, claimant, objects, claimMs)
      })
      gathered = { objects, written }
      writing = written.catch(() => undefined)
    }
    gathered.objects.push(object)
    return gathered.written
  }
}

const referStatement = statement<{ sha256: string }>(
  'objects.refer',
  `
  with wanted as (
    select distinct decode(hex, 'hex') as sha256, kind, id from unnest($1::text[], $2::text[], $3::text[]) as given (hex, kind, id)
  ), held as (
    select o.sha256 from sluice.objects o where o.sha256 in (select sha256 from wanted) order by o.sha256 for key share
  ), sound as (
    select held.sha256 from held
    where exists (
        select from sluice.object_claims c
        where c.sha256 = held.sha256 and c.claimant = $4 and c.expires_at > (select sluice.sluice_now())
      )
      or exists (select from sluice.object_refs r where r.sha256 = held.sha256)
  ), referred as (
    insert into sluice.object_refs (referrer_kind, referrer_id, sha256)
    select kind, id, sha256 from wanted join sound using (sha256) order by kind, id, sha256
    on conflict do nothing
  ), used as (
    delete from sluice.object_claims c using sound where c.sha256 = sound.sha256 and c.claimant = $4
  )
  select encode(sha256, 'hex') as sha256 from sound`,
)

/**
 * Turns the claims of `claimant` into references, in the transaction of the caller, beside the rows that name the
 * objects. An object that has a reference already can be referred to without a claim.
 * @throws SluiceError OBJECT_NOT_FOUND when an object has neither a live claim of `claimant` nor a reference: it may be
 * gone, and is to be put again. The caller's transaction has to be rolled back then.
 */
export async function referToObjects(
  session: Session,
  claimant: string,
  references: readonly ObjectReference[],
): Promise<void> {
  if (references.length === 0) return
  const hashes = references.map((reference) => reference.sha256)
  const kinds = references.map((reference) => reference.kind)
  const ids = references.map((reference) => reference.id)
  const sound = new Set((await session.query(referStatement, [hashes, kinds, ids, claimant])).map((row) => row.sha256))
  const missing = [...new Set(hashes)].filter((sha256) => !sound.has(sha256))
  if (missing.length > 0) {
    const shown = missing.slice(0, 3).join(', ') + (missing.length > 3 ? ` and ${missing.length - 3} more` : '')
    throw new SluiceError(
      'OBJECT_NOT_FOUND',
      `Nothing of "${claimant}" claims ${shown} any more, and nothing refers to it; put it again`,
    )
  }
}

const releaseStatement = statement(
  'objects.release',
  `
  with released as (
    delete from sluice.object_refs where referrer_kind = $1 and referrer_id = any ($2::text[]) returning sha256
  ), held as (
    select o.sha256 from sluice.objects o where o.sha256 in (select sha256 from released) order by o.sha256 for no key update
  )
  update sluice.objects o set idle_since = greatest(o.idle_since, (select sluice.sluice_now())) from held where o.sha256 = held.sha256`,
)

/** Drops every reference of these referrers; gives the number of objects that lost one. */
export async function releaseObjects(session: Session, kind: string, ids: readonly string[]): Promise<number> {
  return ids.length === 0 ? 0 : session.execute(releaseStatement, [kind, ids])
}

const releaseSomeStatement = statement(
  'objects.release-some',
  `
  with released as (
    delete from sluice.object_refs
    where referrer_kind = $1 and referrer_id = $2 and sha256 = any (select decode(hex, 'hex') from unnest($3::text[]) as hex)
    returning sha256
  ), held as (
    select o.sha256 from sluice.objects o where o.sha256 in (select sha256 from released) order by o.sha256 for no key update
  )
  update sluice.objects o set idle_since = greatest(o.idle_since, (select sluice.sluice_now())) from held where o.sha256 = held.sha256`,
)

/** Drops some references of one referrer; those that it has not are passed over. */
export async function releaseReferences(
  session: Session,
  { kind, id }: Pick<ObjectReference, 'kind' | 'id'>,
  hashes: readonly string[],
): Promise<void> {
  if (hashes.length > 0) await session.execute(releaseSomeStatement, [kind, id, hashes])
}

const adoptStatement = statement(
  'objects.adopt',
  `
  insert into sluice.objects (sha256, bytes, idle_since)
  select distinct on (hex) decode(hex, 'hex'), bytes, (select sluice.sluice_now()) from unnest($1::text[], $2::bigint[]) as given (hex, bytes)
  order by hex
  on conflict (sha256) do nothing`,
)

/** Gives stored objects that have no row one, idle from now on, so that the sweep sees them; gives their number. */
export async function adoptObjects(session: Session, objects: readonly ObjectInfo[]): Promise<number> {
  if (objects.length === 0) return 0
  const hashes = objects.map((object) => object.sha256)
  return session.execute(adoptStatement, [hashes, objects.map((object) => object.bytes)])
}

const lockIdleStatement = statement<{ sha256: string }>(
  'objects.lock-idle',
  `
  select encode(sha256, 'hex') as sha256 from sluice.objects
  where idle_since <= (select sluice.sluice_now()) - $1 * interval '1 ms'
  order by idle_since, sha256 limit $2
  for update skip locked`,
)

const deleteUnneededStatement = statement<{ sha256: string }>(
  'objects.delete-unneeded',
  `
  delete from sluice.objects o
  where o.sha256 = any (select decode(hex, 'hex') from unnest($1::text[]) as hex)
    and not exists (select from sluice.object_refs r where r.sha256 = o.sha256)
    and not exists (
      select from sluice.object_claims c
      where c.sha256 = o.sha256 and c.expires_at > (select sluice.sluice_now()) - $2 * interval '1 ms'
    )
  returning encode(o.sha256, 'hex') as sha256`,
)

const forgetClaimsStatement = statement(
  'objects.forget-claims',
  `
  delete from sluice.object_claims c
  where c.sha256 = any (select decode(hex, 'hex') from unnest($1::text[]) as hex)
    and c.expires_at <= (select sluice.sluice_now()) - $2 * interval '1 ms'`,
)

const keepStatement = statement(
  'objects.keep',
  `
  update sluice.objects o
  set idle_since = (select max(c.expires_at) from sluice.object_claims c where c.sha256 = o.sha256)
  where o.sha256 = any (select decode(hex, 'hex') from unnest($1::text[]) as hex)`,
)

export interface SweepOptions {
  /** Milliseconds after the end of the last claim or reference before bytes are removed. */
  readonly graceMs: number
  /** The most objects that one sweep looks at, and holds locked while it removes files. Default 200. */
  readonly limit?: number
}

export interface Sweep {
  /** How many objects were looked at; `limit` of them means that there may be more. */
  readonly examined: number
  readonly removed: number
}

/**
 * Removes idle objects that nothing claims or refers to: rows and bytes. Any number of sweeps may run at once; while a
 * backup is taken none removes anything.
 */
export async function sweepObjects(
  database: Database,
  store: Pick<ObjectStore, 'remove'>,
  { graceMs, limit = 200 }: SweepOptions,
): Promise<Sweep> {
  return database.transaction(async (session) => {
    if (!(await withoutBackup(session))) return { examined: 0, removed: 0 }
    const idle = (await session.query(lockIdleStatement, [graceMs, limit])).map((row) => row.sha256)
    if (idle.length === 0) return { examined: 0, removed: 0 }
    const unneeded = await session.query(deleteUnneededStatement, [idle, graceMs])
    await session.execute(forgetClaimsStatement, [idle, graceMs])
    await session.execute(keepStatement, [idle])
    await Promise.all(unneeded.map((row) => store.remove(row.sha256)))
    return { examined: idle.length, removed: unneeded.length }
  })
}
