/** What a backup says of itself: in its first part, before everything else, and in its last, when all is known. */
import { z } from 'zod'

export const formatNumber = 1

const migration = z.object({ scope: z.string(), number: z.int(), name: z.string(), sha256: z.string() })

/** `sluice-backup.json`, the first part. */
export const headSchema = z.object({
  format: z.literal(formatNumber),
  /** The version of Sluice that made it. */
  sluice: z.string(),
  takenAt: z.iso.datetime(),
  migrations: z.array(migration).min(1),
})
export type Head = z.infer<typeof headSchema>

const sha256 = z.string().regex(/^[0-9a-f]{64}$/)
const count = z.int().min(0)
/** Within a version's folder. */
const path = z
  .string()
  .max(1_000)
  .refine(
    (text) => !text.startsWith('/') && !text.includes('\0') && !text.split('/').includes('..'),
    'is no path inside',
  )

/** `manifest.json`, the last part. */
export const manifestSchema = z.object({
  tables: z.array(
    z.object({
      schema: z.string(),
      name: z.string(),
      columns: z.array(z.string()),
      rows: count,
      bytes: count,
      /** Of its rows as the server copied them. */
      sha256,
    }),
  ),
  partitions: z.array(z.object({ schema: z.string(), name: z.string(), day: z.string().regex(/^\d{8}$/) })),
  /** Of the tables of apps. */
  appPartitions: z
    .array(
      z.object({
        ...{ schema: z.string(), name: z.string(), parentSchema: z.string(), parent: z.string() },
        ...{ bound: z.string(), by: z.string().nullable() },
      }),
    )
    .default([]),
  /** `column` is empty for a sequence that belongs to none; `name` is its own then. */
  sequences: z.array(z.object({ schema: z.string(), name: z.string(), column: z.string(), last: count.nullable() })),
  objects: z.object({
    count,
    bytes: count,
    /** Objects that something refers to and that were not in the store. */
    missing: z.array(sha256),
    /** Objects whose bytes were not those of their hash: in the backup, and not put back. */
    damaged: z.array(sha256),
  }),
  versions: z.array(
    z.object({ hash: z.string().regex(/^[0-9a-f]{8,64}$/), files: z.array(z.object({ path, bytes: count, sha256 })) }),
  ),
  /** Versions that runs need and whose code was not on this machine. */
  versionsMissing: z.array(z.string()),
})
export type Manifest = z.infer<typeof manifestSchema>
export type TableFacts = Manifest['tables'][number]

/** The names of parts: rows in pieces, objects by their hash, the code of versions. */
export const parts = {
  head: 'sluice-backup.json',
  rows: (schema: string, name: string, piece: number) =>
    `tables/${schema}.${name}/${String(piece).padStart(6, '0')}.copy`,
  object: (hash: string) => `objects/${hash.slice(0, 2)}/${hash}`,
  version: (hash: string, file: string) => `versions/${hash}/${file}`,
  manifest: 'manifest.json',
}
