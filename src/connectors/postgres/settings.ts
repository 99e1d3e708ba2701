import { z } from 'zod'
import { parseDuration } from '../../time.ts'

const form = 'postgresql://user@host:port/database (a socket: postgresql://user@/database?host=/folder)'

const isUrl = (text: string): boolean =>
  /^postgres(ql)?:\/\/./.test(text) &&
  URL.canParse(text.replace('@/', '@localhost/').replace(/^(\w+:\/\/)\//, '$1localhost/'))

const duration = (fromMs: number, toMs: number, range: string, standard: string) =>
  z
    .string()
    .default(standard)
    .refine((text) => {
      try {
        const ms = parseDuration(text)
        return ms >= fromMs && ms <= toMs
      } catch {
        return false
      }
    }, `a duration ${range}, such as ${standard}`)

/** A connection of kind `postgres`, as the configuration writes it. `docs/tables.md` says the same for its readers. */
export const postgresSettings = z.strictObject({
  kind: z.literal('postgres'),
  url: z.string().refine(isUrl, form),
  /** Over that of the URL; as a rule `{ "secret": "NAME" }`. */
  password: z.string().min(1).optional(),
  /** `true` checks the certificate against the system's authorities, `ca` (PEM text) against these. Over what the URL says. Default: as the URL says, else none. */
  ssl: z
    .union([
      z.boolean(),
      z.strictObject({
        ca: z.string().min(1).optional(),
        cert: z.string().min(1).optional(),
        key: z.string().min(1).optional(),
        servername: z.string().min(1).optional(),
      }),
    ])
    .optional(),
  /** Connections of one process at most, opened when they are needed and closed after a minute without use. */
  pool: z.int().min(1).max(50).default(4),
  /** The server ends a statement that takes longer. */
  statementTimeout: duration(1, 3_600_000, 'from 1ms to 1h', '60s'),
  /** How long to wait for a connection, and for a free one of the pool. */
  connectTimeout: duration(10, 60_000, 'from 10ms to 60s', '10s'),
  /** A statement that gives more rows fails: they are in memory as a whole. */
  maxRows: z.int().min(1).max(10_000_000).default(100_000),
})

export type PostgresSettings = z.infer<typeof postgresSettings>

/** The URL with another login; what else says one in it goes. */
export function withLogin(url: string, user: string | undefined, password: string | undefined): string {
  const [, scheme = '', own = '', rest = ''] = /^(\w+:\/\/)(?:([^/?#]*)@)?(.*)$/s.exec(url) ?? []
  const [ownUser = '', ...ownPassword] = own.split(':')
  const login = [
    user === undefined ? ownUser : encodeURIComponent(user),
    ...(password === undefined ? ownPassword.slice(0, 1) : [encodeURIComponent(password)]),
  ].join(':')
  const [place = '', query] = rest.split(/\?(.*)/s)
  const kept = (query ?? '')
    .split('&')
    .filter(
      (part) =>
        part !== '' &&
        !(user !== undefined && /^user=/.test(part)) &&
        !(password !== undefined && /^password=/.test(part)),
    )
  return `${scheme}${login}@${place}${kept.length === 0 ? '' : `?${kept.join('&')}`}`
}
