/** Manifests under their content hash, and which one takes new work. */
import { declaredLimits } from '../core/limit-needs.ts'
import type { Manifest } from '../core/manifest.ts'
import { type Session, statement } from '../ports/database.ts'
import { declareLimits } from './limits.ts'

const save = statement(
  'versions.save',
  `with saved as (
     insert into sluice.versions (hash, manifest) values ($1, $2::text::json)
     on conflict (hash) do update set used_at = sluice.sluice_now()
   ), named as (
     insert into sluice.workflows (name) select unnest($3::text[]) on conflict do nothing
   )
   update sluice.versions v set used_at = sluice.sluice_now() from sluice.deployment d where d.version = v.hash and v.hash <> $1`,
)
/** A file that was kept before says since when. */
const deploy = statement(
  'versions.deploy',
  `with before as (
     select k ->> 'file' as file, k ->> 'since' as since from sluice.deployment d, json_array_elements(d.kept) as k
   ), kept as (
     select coalesce(json_agg(json_build_object('file', k -> 'file', 'version', k -> 'version', 'faults', k -> 'faults',
       'since', coalesce(b.since, to_char(sluice.sluice_now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')))
       order by k.number), '[]') as files
     from json_array_elements($3::text::json) with ordinality as k (k, number) left join before b on b.file = k ->> 'file'
   )
   insert into sluice.deployment (version, faults, kept) select $1, $2::text::json, files from kept
   on conflict (one) do update
   set version = excluded.version, faults = excluded.faults, kept = excluded.kept, deployed_at = sluice.sluice_now()`,
)
const tell = statement('versions.tell', `select pg_notify('sluice_deployment', $1)`)

/** Makes a manifest the one that takes new work, and tells every process. */
export async function deployVersion(session: Session, manifest: Manifest): Promise<void> {
  const faults = JSON.stringify(manifest.faults)
  const names = manifest.workflows.map((workflow) => workflow.name)
  await session.execute(save, [manifest.hash, JSON.stringify(manifest), names])
  await session.execute(deploy, [manifest.hash, faults, JSON.stringify(manifest.kept ?? [])])
  await declareLimits(session, declaredLimits(manifest.workflows).limits)
  await session.execute(tell, [manifest.hash])
}

const current = statement<{ manifest: Manifest; faults: Manifest['faults']; kept: Manifest['kept'] }>(
  'versions.current',
  'select v.manifest, d.faults, d.kept from sluice.deployment d join sluice.versions v on v.hash = d.version',
)

/** What takes new work, with what is wrong with it now. */
export async function currentVersion(session: Session): Promise<Manifest | undefined> {
  const [row] = await session.query(current)
  return row && { ...row.manifest, faults: row.faults, kept: row.kept ?? [] }
}

const deployed = statement<{ hash: string }>('versions.deployed', 'select version as hash from sluice.deployment')

/** The hash of the version that takes new work. */
export async function deployedVersion(session: Session): Promise<string | undefined> {
  return (await session.query(deployed))[0]?.hash
}

const known = statement<{ hash: string }>(
  'versions.known',
  'select hash from sluice.versions where hash = any($1::text[])',
)

/** Those of the hashes that are versions of which something is kept. */
export async function knownVersions(session: Session, hashes: readonly string[]): Promise<ReadonlySet<string>> {
  return new Set((await session.query(known, [hashes])).map((row) => row.hash))
}

const read = statement<{ manifest: Manifest }>('versions.read', 'select manifest from sluice.versions where hash = $1')

export async function readVersion(session: Session, hash: string): Promise<Manifest | undefined> {
  return (await session.query(read, [hash]))[0]?.manifest
}
