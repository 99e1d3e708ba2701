/**
 * Which schemas belong to which app: noted when an app's migrations make them.
 *
 * 1. An app has the schemas that its own migrations made, or filled when they were empty. It makes nothing elsewhere, least of all
 *    in the platform's schema; a migration that does is refused, and nothing of it is left.
 * 2. What other sessions make meanwhile in the platform's schema are day partitions only: those do not count.
 */
import { type Session, statement } from '../ports/database.ts'
import { failed } from './migration-plan.ts'

export interface SchemaContents {
  readonly schema: string
  /** The app that it belongs to; null for none. */
  readonly scope: string | null
  /** `oid name` of its tables, views and sequences, but for those of extensions. */
  readonly relations: readonly string[]
}

const contentsStatement = statement<SchemaContents>(
  'apps.schemas',
  `
  select n.nspname as schema, a.scope, array(
      select c.oid || ' ' || c.relname from pg_class c
      where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        and not (n.nspname = 'sluice' and c.relispartition)
        and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    ) as relations
  from pg_namespace n left join sluice.app_schemas a on a.schema = n.nspname
  where n.nspname <> 'information_schema' and n.nspname !~ '^pg_'`,
)

/** Folders may be run on a database without the platform's tables. */
const knownStatement = statement<{ known: boolean }>(
  'apps.schemas-known',
  `select to_regclass('sluice.app_schemas') is not null as known`,
)

const noteStatement = statement(
  'apps.note-schemas',
  'insert into sluice.app_schemas (schema, scope) select unnest($1::text[]), $2 on conflict (schema) do update set scope = excluded.scope',
)

/** Runs a migration of an app, and notes the schemas that it made. @throws SluiceError MIGRATION_FAILED */
export async function noteSchemas(
  session: Session,
  { scope, name }: { readonly scope: string; readonly name: string },
  work: () => Promise<void>,
): Promise<void> {
  const [tables] = await session.query(knownStatement)
  if (!tables?.known) return work()
  const before = await session.query(contentsStatement)
  await work()
  // What a migration sets for itself is not for the next.
  await session.script('reset role; reset search_path')
  const judged = judgeSchemas(scope, before, await session.query(contentsStatement))
  if (judged.fault !== undefined) throw failed(`${scope}/${name}: ${judged.fault}`)
  if (judged.made.length > 0) await session.execute(noteStatement, [judged.made, scope])
}

interface Judged {
  readonly fault?: string
  /** Schemas that are the app's from now on. */
  readonly made: readonly string[]
}

/** What a migration of an app has done, and whether it may. */
export function judgeSchemas(
  scope: string,
  before: readonly SchemaContents[],
  after: readonly SchemaContents[],
): Judged {
  const had = new Map(before.map((one) => [one.schema, one]))
  const made: string[] = []
  for (const { schema, scope: owner, relations } of after) {
    const old = had.get(schema)
    const fresh = relations.filter((relation) => !old?.relations.includes(relation)).map(nameOf)
    const gone = (old?.relations ?? []).filter((relation) => !relations.includes(relation)).map(nameOf)
    if (schema === 'sluice') {
      const touched = [...fresh, ...gone]
      if (touched.length > 0) return { fault: `it changes ${list(touched, schema)}, which is the platform's`, made }
    } else if (old === undefined) made.push(schema)
    else if (fresh.length === 0 || owner === scope) continue
    else if (owner !== null) return { fault: `it makes ${list(fresh, schema)}, a schema of the app ${owner}`, made }
    else if (schema === 'public' || old.relations.length > 0) {
      return {
        fault: `it makes ${list(fresh, schema)}, which is not its own: begin with create schema ${own(scope)}`,
        made,
      }
    } else made.push(schema)
  }
  const lost = before.find(({ schema }) => schema === 'sluice' && !after.some((one) => one.schema === schema))
  return lost === undefined ? { made } : { fault: "it drops the platform's schema sluice", made }
}

const nameOf = (relation: string): string => relation.slice(relation.indexOf(' ') + 1)
const list = (relations: readonly string[], schema: string) =>
  relations
    .slice(0, 3)
    .map((name) => `${schema}.${name}`)
    .join(', ')
const own = (scope: string): string => scope.replaceAll('-', '_')
