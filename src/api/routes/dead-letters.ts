/** Dead letters of streams: look at them, edit them, have them tried again. */
import { createHash } from 'node:crypto'
import type { StreamManifest } from '../../core/manifest.ts'
import { SluiceError } from '../../errors.ts'
import { z } from '../../sdk/schema.ts'
import { answerOnce } from '../../store/answered-requests.ts'
import { type DeadLetterDetail, findDeadLetter, listDeadLetters } from '../../store/dead-letters.ts'
import { editDeadLetter } from '../../store/edit-dead-letter.ts'
import { replayWithin } from '../../store/replay-dead-letters.ts'
import { maxRecordBytes } from '../../store/topics.ts'
import type { ApiContext } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { idempotencyHeader, pageOf, pageQuery, type Route, route } from '../route.ts'

const time = z.iso.datetime()
const count = z.int()

const deadLetter = z.object({
  id: z.string().meta({ description: 'The id of the record' }),
  partition: count,
  offset: count,
  key: z.string().nullable(),
  value: z.unknown(),
  reason: z.string().nullable(),
  detail: z.string().nullable(),
  attempts: count.meta({ description: 'That failed since it was published or replayed last' }),
  earlierAttempts: count.meta({ description: 'That failed before it was replayed last' }),
  replays: count,
  edits: count,
  since: time.meta({ description: 'When it died' }),
})

const detail = deadLetter.extend({
  state: z.string().meta({
    description: 'dead; waiting or retry once it is replayed; then, of an edited record, how it has ended',
  }),
  since: time.nullable(),
  original: z.unknown().meta({ description: 'The value as it was published' }),
  errors: z
    .array(
      z.object({
        at: z.iso.datetime({ offset: true }),
        attempt: count,
        reason: z.string().nullable(),
        detail: z.string().nullable(),
      }),
    )
    .meta({ description: 'The last 20 attempts that failed, replays included, the oldest first' }),
  history: z
    .array(z.object({ at: time, was: z.string().nullable(), outcome: z.string(), reason: z.string().nullable() }))
    .meta({ description: 'What the ledger says of it' }),
  changes: z
    .array(z.object({ at: time, by: z.string(), note: z.string().nullable(), value: z.unknown() }))
    .meta({ description: 'The last 8 edits, the oldest first' }),
  behind: z.object({ dead: count, waiting: count }).meta({
    description: 'Other records of its key that have not ended; replaying it in a distinct stream takes the dead along',
  }),
})

const reason = z.string().min(1).max(200)
const key = z.string().min(1).max(1_000)
const since = z.iso.datetime({ offset: true }).meta({ description: 'Those that died at this time or later' })

const listQuery = z.strictObject({
  reason: reason.optional(),
  key: key.optional(),
  since: since.optional(),
  ...pageQuery,
})

const replayBody = z
  .strictObject({
    letters: z
      .array(z.string().regex(/^\d{1,3}:\d{1,15}$/, 'is no place such as 0:12, partition and offset'))
      .min(1)
      .max(1_000)
      .optional()
      .meta({ description: 'Places, partition:offset, 1,000 at most' }),
    ids: z
      .array(z.string().min(1).max(1_000))
      .min(1)
      .max(1_000)
      .optional()
      .meta({ description: 'Ids of records, 1,000 at most' }),
    filter: z
      .strictObject({ reason: reason.optional(), key: key.optional(), since: since.optional() })
      .refine(
        (filter) => Object.values(filter).some((value) => value !== undefined),
        'give one of reason, key and since',
      )
      .optional()
      .meta({ description: 'All for which everything that is given holds' }),
    all: z.literal(true).optional(),
  })
  .refine(
    (body) => Object.values(body).filter((value) => value !== undefined).length === 1,
    'give one of letters, ids, filter, and all: true',
  )

const editBody = z.strictObject({
  value: z.unknown().refine((value) => value !== undefined, 'is missing'),
  by: z.string().min(1).max(200).default('unknown').meta({ description: 'Who edits it, for the audit' }),
  note: z.string().max(1_000).optional().meta({ description: 'Why' }),
  edits: count.min(0).optional().meta({ description: 'How many edits you have seen: refused when there are others' }),
})

export const nameParams = z.object({ name: z.string().max(200) })
type Name = z.infer<typeof nameParams>

const letterParams = nameParams.extend({
  partition: z.coerce.number().int().min(0).max(255),
  offset: z.coerce.number().int().min(0),
})
type Letter = z.infer<typeof letterParams>

export function deadLetterRoutes(context: ApiContext): Route[] {
  return [listRoute(context), detailRoute(context), editRoute(context), replayRoute(context)]
}

function listRoute(context: ApiContext): Route {
  return route<Name, z.infer<typeof listQuery>>({
    method: 'GET',
    path: '/api/v1/streams/:name/dead-letters',
    tag: 'streams',
    summary: 'Records that gave up',
    params: nameParams,
    query: listQuery,
    answers: { 200: { description: 'A page', schema: pageOf(deadLetter, 'dead letters') } },
    errors: ['INVALID_CURSOR'],
    async handle({ params, query: { limit, cursor, reason, key, since } }) {
      const { name } = streamOf(context, params.name)
      // A place in one stream is none in another.
      const kind = `dead-letters ${name}`
      const after = cursor === undefined ? null : decodeCursor(kind, z.string().max(50), cursor)
      const page = await listDeadLetters(context.db, name, {
        cursor: after,
        limit,
        ...filterOf({ reason, key, since }),
      })
      return {
        items: page.items.map(({ recordId, value, ...letter }) => ({
          id: recordId,
          ...letter,
          value: JSON.parse(value),
        })),
        nextCursor: page.nextCursor === null ? null : encodeCursor(kind, page.nextCursor),
      }
    },
  })
}

function detailRoute(context: ApiContext): Route {
  return route<Letter>({
    method: 'GET',
    path: '/api/v1/streams/:name/dead-letters/:partition/:offset',
    tag: 'streams',
    summary: 'A dead letter with its errors and edits',
    params: letterParams,
    answers: { 200: { description: 'The letter', schema: detail } },
    async handle({ params: { name, partition, offset } }) {
      return shownLetter(context, streamOf(context, name).name, partition, offset)
    },
  })
}

function editRoute(context: ApiContext): Route {
  return route<Letter, unknown, z.infer<typeof editBody>>({
    method: 'PUT',
    path: '/api/v1/streams/:name/dead-letters/:partition/:offset',
    tag: 'streams',
    summary: 'Give a dead letter another value',
    description:
      'The value must fit the topic and keep the id of the record; its key may become another. The values before are kept. It stays dead until it is replayed.',
    params: letterParams,
    headers: idempotencyHeader,
    body: editBody,
    bodyExample: { value: { url: 'https://example.com/1' }, by: 'ada', note: 'the host has moved' },
    answers: { 200: { description: 'The letter as it is now', schema: detail } },
    errors: ['CONFLICT', 'RECORD_TOO_LARGE', 'IDEMPOTENCY_KEY_REUSED', 'UNAVAILABLE'],
    async handle({ params: { name, partition, offset }, body, headers }) {
      const stream = streamOf(context, name)
      const value = JSON.stringify(body.value)
      if (Buffer.byteLength(value) > maxRecordBytes) {
        throw new SluiceError('RECORD_TOO_LARGE', `The value is over ${maxRecordBytes} bytes`)
      }
      const { recordId, key } = identityOf(context, stream, value)
      const { by, note = null, edits: seenEdits = null } = body
      const edit = { stream: stream.name, partition, offset, value, recordId, key, by, note, seenEdits }
      await context.db.transaction((session) =>
        answerOnce(session, onceFor(headers, ['edit', name, partition, offset, body]), async () => {
          await editDeadLetter(session, { ...edit, distinct: stream.distinct ?? false })
          return null
        }),
      )
      return shownLetter(context, stream.name, partition, offset)
    },
  })
}

function replayRoute(context: ApiContext): Route {
  return route<Name, unknown, z.infer<typeof replayBody>>({
    method: 'POST',
    path: '/api/v1/streams/:name/dead-letters/replay',
    tag: 'streams',
    summary: 'Try dead letters again',
    description: 'Where the stream takes only the first record of each key, what died with the same key comes along.',
    params: nameParams,
    headers: idempotencyHeader,
    body: replayBody,
    bodyExample: { all: true },
    answers: {
      200: {
        description:
          'How many wait again, how many more would fit and are still dead, and which of those named are not dead',
        schema: z.object({ replayed: count, remaining: count, notDead: z.array(z.string()) }),
      },
    },
    errors: ['IDEMPOTENCY_KEY_REUSED'],
    handle({ params, body, headers }) {
      const { name, distinct = false } = streamOf(context, params.name)
      const { ids, letters, filter = {} } = body
      return context.db.transaction((session) =>
        answerOnce(session, onceFor(headers, ['replay', name, body]), () =>
          replayWithin(session, name, { ids, letters, ...filterOf(filter) }, { distinct }),
        ),
      )
    },
  })
}

/** @throws SluiceError NOT_FOUND */
export function streamOf({ manifest }: ApiContext, name: string): StreamManifest {
  const found = manifest().streams.find((stream) => stream.name === name)
  if (found) return found
  throw new SluiceError('NOT_FOUND', `There is no stream ${JSON.stringify(name.slice(0, 80))}`)
}

type Filter = { reason?: string | undefined; key?: string | undefined; since?: string | undefined }

const filterOf = ({ reason, key, since }: Filter) => ({
  reason,
  key,
  since: since === undefined ? undefined : new Date(since),
})

function identityOf(context: ApiContext, { name }: StreamManifest, value: string) {
  const identity = context.identify(name, value)
  if (identity === undefined) {
    throw new SluiceError('UNAVAILABLE', `The stream ${name} is being deployed; ask again in a moment`)
  }
  if (!('fault' in identity)) return identity
  const faults = [{ where: '/body/value', message: identity.fault }]
  throw new SluiceError('INVALID_INPUT', `The stream ${name} does not take this value: ${identity.fault}`, { faults })
}

/** What `answerOnce` needs to know of a request. */
export function onceFor(headers: Readonly<Record<string, string | undefined>>, request: readonly unknown[]) {
  const requestHash = createHash('sha256').update(JSON.stringify(request)).digest('hex')
  return { key: headers['idempotency-key'], requestHash }
}

async function shownLetter({ db }: ApiContext, stream: string, partition: number, offset: number): Promise<object> {
  const letter = await findDeadLetter(db, stream, partition, offset)
  if (letter === undefined) throw new SluiceError('NOT_FOUND', `${stream} has no dead letter ${partition}:${offset}`)
  const { recordId, value, original, changes, ...rest }: DeadLetterDetail = letter
  return {
    id: recordId,
    ...rest,
    value: JSON.parse(value),
    original: JSON.parse(original),
    changes: changes.map((change) => ({ ...change, value: JSON.parse(change.value) })),
  }
}
