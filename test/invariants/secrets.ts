/** Secrets: looked for in every column of every table that holds text or bytes, in files and in given texts. */
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { statement } from '../../src/ports/database.ts'
import type { Invariant, Snapshot } from './breach.ts'

/** 13. A planted secret shows up in no row, object, file or text, however it is written. */
export const secretInvariants: readonly Invariant[] = [
  { number: 13, when: 'always', find: inRows },
  { number: 13, when: 'always', find: inFiles },
  { number: 13, when: 'always', find: inTexts },
]

const columnsStatement = statement<{ table: string; columns: string[]; bytes: string[] }>(
  'invariant.secrets.columns',
  `select format('%I.%I', n.nspname, c.relname) as table,
     array_agg(quote_ident(a.attname)) filter (where t.typname <> 'bytea') as columns,
     coalesce(array_agg(quote_ident(a.attname)) filter (where t.typname = 'bytea'), '{}') as bytes
   from pg_class c join pg_namespace n on n.oid = c.relnamespace
   join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
   join pg_type t on t.oid = a.atttypid
   where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')
     and t.typname in ('text', 'varchar', 'bpchar', 'json', 'jsonb', 'xml', 'bytea', '_text', '_varchar', '_json', '_jsonb')
   group by 1 order by 1`,
)

async function inRows({ session, options }: Snapshot): Promise<string[]> {
  const forms = (options.secrets ?? []).flatMap(formsOf)
  if (forms.length === 0) return []
  const patterns = forms.map((form) => `%${form.replace(/[\\%_]/g, '\\$&')}%`)
  const bytes = forms.map((form) => Buffer.from(form))
  const found: string[] = []
  for (const { table, columns, bytes: binary } of await session.query(columnsStatement)) {
    // The one text that is not static: the names come from the catalogue, quoted by the server.
    const parts = [
      ...(columns ?? []).map(
        (name) =>
          `select '${table} ${name}' as place, count(*)::int as rows from ${table} where ${name}::text like any ($1::text[])`,
      ),
      ...binary.map(
        (name) =>
          `select '${table} ${name}' as place, count(*)::int as rows from ${table} where exists (select from unnest($2::bytea[]) f where position(f in ${name}) > 0)`,
      ),
    ]
    const text = `select place, rows from (${parts.join(' union all ')}) s where rows > 0 and ($1::text[], $2::bytea[]) is not null`
    const look = statement<{ place: string; rows: number }>(`invariant.secrets ${table}`.slice(0, 63), text)
    for (const { place, rows } of await session.query(look, [patterns, bytes]))
      found.push(`a secret is in ${rows} rows of ${place}`)
  }
  return found
}

async function inFiles({ options: { home, objects, secrets = [] } }: Snapshot): Promise<string[]> {
  const forms = secrets.flatMap(formsOf).map((form) => Buffer.from(form))
  if (forms.length === 0) return []
  const found: string[] = []
  if (home !== undefined) {
    const entries = await readdir(home, { recursive: true, withFileTypes: true }).catch(() => [])
    for (const entry of entries) {
      const path = join(entry.parentPath, entry.name)
      if (entry.isFile() && (await holds(createReadStream(path), forms))) found.push(`a secret is in ${path}`)
    }
  } else if (objects !== undefined) {
    for await (const sha256 of objects.list()) {
      const bytes = await objects.open(sha256).catch(() => undefined)
      if (bytes && (await holds(bytes, forms))) found.push(`a secret is in object ${sha256}`)
    }
  }
  return found
}

/** A file that vanishes meanwhile holds nothing. */
async function holds(stream: Readable, forms: readonly Buffer[]): Promise<boolean> {
  const longest = Math.max(...forms.map((form) => form.length))
  let tail = Buffer.alloc(0)
  try {
    for await (const chunk of stream) {
      const text = Buffer.concat([tail, chunk as Buffer])
      if (forms.some((form) => text.includes(form))) return true
      tail = text.subarray(Math.max(0, text.length - longest))
    }
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown
  }
  return false
}

async function inTexts({ options: { texts = [], secrets = [] } }: Snapshot): Promise<string[]> {
  const forms = secrets.flatMap(formsOf)
  return texts.flatMap((text) => {
    const form = forms.find((one) => text.includes(one))
    if (form === undefined) return []
    const at = text.indexOf(form)
    return [`a secret is in the text ${JSON.stringify(text.slice(Math.max(0, at - 60), at))}…`]
  })
}

/** As it is, inside JSON (also twice), in a URL, in hexadecimal, and inside base64 at each of its three places. */
function formsOf(secret: string): string[] {
  const quoted = JSON.stringify(secret).slice(1, -1)
  const bytes = Buffer.from(secret)
  const inBase64 = [0, 1, 2].flatMap((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64')
    const inside = text.slice(before === 0 ? 0 : before + 1, Math.floor(((before + bytes.length) * 8) / 6))
    return [inside, inside.replaceAll('+', '-').replaceAll('/', '_')]
  })
  return [
    ...new Set([
      secret,
      quoted,
      JSON.stringify(quoted).slice(1, -1),
      encodeURIComponent(secret),
      bytes.toString('hex'),
      ...inBase64,
    ]),
  ]
}
