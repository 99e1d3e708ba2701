import type { StreamManifest } from '../core/manifest.ts'
import type { Session } from '../ports/database.ts'
import { tableFaults } from '../store/table-catalogue.ts'

/** For `/readyz`: whether the tables that streams fill are there and as defined; nothing when no stream fills any. */
export async function tableChecks(db: Session, streams: readonly StreamManifest[]) {
  const tables = streams.flatMap(({ sink }) => (sink.kind === 'table' ? [sink] : []))
  const faults: string[] = []
  for (const sink of tables) for (const fault of await tableFaults(db, sink)) faults.push(`${sink.table}: ${fault}`)
  if (tables.length === 0) return []
  return [
    {
      name: 'tables',
      ok: faults.length === 0,
      detail: faults.slice(0, 10).join('; ') || `${tables.length} as defined`,
    },
  ]
}
