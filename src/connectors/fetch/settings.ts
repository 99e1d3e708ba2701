import { z } from 'zod'
import { parseDuration } from '../../time.ts'

const duration = z.string().superRefine((text, context) => {
  try {
    parseDuration(text)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
  }
})

/** A duration that a timer can hold: at most a day. */
const shortDuration = duration.refine((text) => within(text, 86_400_000), 'at most 1d')

const within = (text: string, ms: number): boolean => {
  try {
    return parseDuration(text) <= ms
  } catch {
    return false
  }
}

const isSome = (text: string): boolean => !within(text, 0)

const headerText = z
  .string()
  .regex(/^[\x21-\x7e]+( [\x21-\x7e]+)*$/, 'printable ASCII, words apart by one space')
  .max(256)

/** A connection of kind `fetch`, as the configuration writes it. `docs/fetch.md` says the same for its readers. */
export const fetchSettings = z.strictObject({
  kind: z.literal('fetch'),
  /** Who asks, `name/version`; `sluice/<its version>` by default. */
  userAgent: headerText.optional(),
  /** Where who is asked can complain, `https://...` or `mailto:...`; follows the name in the header, none by default. */
  contact: headerText.regex(/^(https:\/\/|mailto:)\S+$/, 'an https:// or mailto: address').optional(),
  /** Fetches in flight per host and process, and so the connections to it. */
  perHost: z.number().int().min(1).max(256).default(8),
  /**
   * At most `count` requests to one host in any span of `per`, evenly apart, per process; `burst` (1 by default) may follow one
   * another at once after a pause. Default: no limit.
   */
  ratePerHost: z
    .strictObject({
      count: z.number().int().min(1).max(10_000),
      per: shortDuration,
      burst: z.number().int().min(1).max(10_000).default(1),
    })
    .optional(),
  /** A fetch that would wait longer for the rate is sent back with HOST_RESTING. */
  maxWait: shortDuration.default('10s'),
  /** For the whole fetch, redirects and body included; waiting for a turn at a host is not counted. */
  timeout: shortDuration.default('30s'),
  /** Each span of `per` from the head on brings `bytes` of the body or its end; 0 bytes: any pace will do. */
  minPace: z
    .strictObject({
      bytes: z
        .number()
        .int()
        .min(0)
        .max(2 ** 30)
        .default(10_240),
      per: shortDuration.refine(isSome, 'longer than 0').default('10s'),
    })
    .prefault({}),
  /** Largest body in bytes, as sent and as decoded; 20 MiB by default, at most 1 GiB since a body is held in memory. */
  maxBytes: z
    .number()
    .int()
    .min(1)
    .max(2 ** 30)
    .default(20 * 2 ** 20),
  maxRedirects: z.number().int().min(0).max(20).default(5),
  /** The longest `Retry-After` that is believed; what asks for more is taken as asking for this. */
  maxRetryAfter: shortDuration.default('1h'),
  /** When a host that does not answer is left alone. */
  circuit: z
    .strictObject({
      /** Connection-level failures in a row that open it. */
      failures: z.number().int().min(1).max(1_000).default(5),
      /** The first back-off is drawn from 0 to this, the next from 0 to twice as much, ... */
      base: shortDuration.default('1s'),
      /** ... up to this. */
      max: shortDuration.default('1m'),
      /** How long what comes to the host waits; of a host that fails for longer it fails. */
      patience: duration.default('10m'),
    })
    .prefault({}),
  /** Asks another server for URLs that start with `from`; exactly the target's scheme, host and port is admitted for it. */
  rewrite: z.array(z.strictObject({ from: z.string(), to: z.string() })).default([]),
  /** Addresses admitted though they are not public: `host:port` or a CIDR block. */
  allow: z.array(z.string()).default([]),
})

export type FetchSettings = z.infer<typeof fetchSettings>
