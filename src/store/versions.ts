/** Manifests under their content hash, and which one takes new work. */
import type { Manifest } from '../core/manifest.ts'
import { type Session, statement } from '../ports/database.ts'

const save = statement(
  'versions.save',
  `with saved as (
     insert into sluice.versions (hash, manifest) values ($1, $2::text::json) on conflict (hash) do nothing
   ), named as (
     insert into sluice.workflows (name) select unnest($4::text[]) on conflict do nothing
   )
   select $3::text`,
)
const deploy = statement(
  'versions.deploy',
  `insert into sluice.deployment (version, faults) values ($1, $2::text::json)
   on conflict (one) do update set version = excluded.version, faults = excluded.faults, deployed_at = sluice.sluice_now()`,
)
const tell = statement('versions.tell', `select pg_notify('sluice_deployment', $1)`)

/** Makes a manifest the one that takes new work, and tells every process. */
export async function deployVersion(session: Session, manifest: Manifest): Promise<void> {
  const faults = JSON.stringify(manifest.faults)
  const names = manifest.workflows.map((workflow) => workflow.name)
  await session.execute(save, [manifest.hash, JSON.stringify(manifest), faults, names])
  await session.execute(deploy, [manifest.hash, faults])
  await session.execute(tell, [manifest.hash])
}

const current = statement<{ manifest: Manifest; faults: Manifest['faults'] }>(
  'versions.current',
  'select v.manifest, d.faults from sluice.deployment d join sluice.versions v on v.hash = d.version',
)

export async function currentVersion(session: Session): Promise<Manifest | undefined> {
  const [row] = await session.query(current)
  return row && { ...row.manifest, faults: row.faults }
}

const read = statement<{ manifest: Manifest }>('versions.read', 'select manifest from sluice.versions where hash = $1')

export async function readVersion(session: Session, hash: string): Promise<Manifest | undefined> {
  return (await session.query(read, [hash]))[0]?.manifest
}
