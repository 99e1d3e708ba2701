import { userInfo } from 'node:os'
import { type Command, InvalidArgumentError } from 'commander'
import { SluiceError } from '../../errors.ts'
import { type Client, listAll } from '../client.ts'
import { readEdited } from '../edited-value.ts'
import {
  type CommandContext,
  type CommonOptions,
  does,
  parseLimit,
  type Session,
  withCommonOptions,
} from '../session.ts'
import { table } from '../table.ts'

interface DeadLetter {
  readonly id: string
  readonly partition: number
  readonly offset: number
  readonly key: string | null
  readonly value: unknown
  readonly reason: string | null
  readonly detail: string | null
  readonly attempts: number
  readonly earlierAttempts: number
  readonly replays: number
  readonly edits: number
  readonly since: string | null
}

interface DeadLetterDetail extends DeadLetter {
  readonly state: string
  readonly original: unknown
  readonly errors: readonly { at: string; attempt: number; reason: string | null; detail: string | null }[]
  readonly history: readonly { at: string; was: string | null; outcome: string; reason: string | null }[]
  readonly changes: readonly { at: string; by: string; note: string | null; value: unknown }[]
  readonly behind: { readonly dead: number; readonly waiting: number }
}

interface DeadLettersOptions extends CommonOptions {
  readonly replay?: boolean
  readonly show?: string
  readonly edit?: string
  readonly value?: string
  readonly note?: string
  readonly reason?: string
  readonly key?: string
  readonly since?: string
  readonly limit: number
}

export function addDeadLetters(program: Command, context: CommandContext): void {
  const command = program
    .command('dead-letters <stream> [letters...]')
    .description('list the records of a stream that gave up, look at them, edit them, put them back')
    .option('--replay', 'put them back into the stream: the letters named, those that fit the filters, or all')
    .option('--show <letter>', 'one with its errors and edits; a letter is named as the list does, 0:12', parseLetter)
    .option('--edit <letter>', 'give one another value, from --value, or from $EDITOR on a terminal', parseLetter)
    .option('--value <file>', 'the new value as JSON: a file, or - for standard input')
    .option('--note <text>', 'why it is edited')
    .option('--reason <reason>', 'only those that died for this reason')
    .option('--key <key>', 'only those of this key')
    .option('--since <time>', 'only those that died at this time or later, such as 2026-03-28T12:00:00Z', parseTime)
    .option('--limit <count>', 'how many to list at most', parseLimit, 100)
  does(
    withCommonOptions(command, 'reading'),
    context,
    async (session, options: DeadLettersOptions, stream: string, letters: string[]) => {
      refuseMixed(options, letters)
      const client = await session.client()
      const path = `/api/v1/streams/${encodeURIComponent(stream)}/dead-letters`
      if (options.show !== undefined) return show(session, client, path, options.show)
      if (options.edit !== undefined) return edit(session, client, path, options.edit, options)
      if (options.replay) return replay(session, client, path, letters, options)
      return list(session, client, path, stream, options)
    },
  )
}

function refuseMixed({ replay, show, edit, value, note, reason, key, since }: DeadLettersOptions, letters: string[]) {
  const wants = [replay && '--replay', show && '--show', edit && '--edit'].filter(Boolean)
  if (wants.length > 1) throw new SluiceError('USAGE', `${wants.join(' and ')} cannot be given together`)
  if (!edit && (value ?? note) !== undefined) throw new SluiceError('USAGE', '--value and --note belong to --edit')
  if (letters.length > 0 && !replay) throw new SluiceError('USAGE', 'Letters are named with --replay, --show or --edit')
  letters.forEach(parseLetter)
  const filtered = (reason ?? key ?? since) !== undefined
  if (filtered && letters.length > 0) throw new SluiceError('USAGE', 'Name letters, or give filters, not both')
  if (filtered && (show ?? edit) !== undefined)
    throw new SluiceError('USAGE', 'Filters do not go with --show and --edit')
}

async function list({ cli }: Session, client: Client, path: string, stream: string, options: DeadLettersOptions) {
  const filters = Object.entries(filterOf(options)).map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
  const items = await listAll<DeadLetter>(
    client,
    filters.length > 0 ? `${path}?${filters.join('&')}` : path,
    options.limit,
  )
  const rows = items.map((one) => [
    `${one.partition}:${one.offset}`,
    one.key,
    one.attempts + one.earlierAttempts,
    one.edits > 0 ? `edited ${one.edits}x` : '',
    one.since,
    one.reason === null ? one.detail : [one.reason, one.detail].filter(Boolean).join(': ').slice(0, 120),
  ])
  cli.print(table(['LETTER', 'KEY', 'ATTEMPTS', 'EDITS', 'SINCE', 'REASON'], rows), { items })
  if (items.length === 0) cli.note(`The stream ${stream} has no ${filters.length > 0 ? 'such ' : ''}dead letters`)
}

async function show({ cli }: Session, client: Client, path: string, letter: string) {
  const found = await client.request<DeadLetterDetail>('GET', `${path}/${letter.replace(':', '/')}`)
  cli.print(described(found), found)
}

function described(one: DeadLetterDetail): string {
  const errors = one.errors.map(({ at, attempt, reason, detail }) => [at, attempt, reason, detail?.slice(0, 200)])
  const changes = one.changes.map(({ at, by, note, value }) => [at, by, note, JSON.stringify(value).slice(0, 200)])
  const facts: (readonly [string, string | number | null])[] = [
    ['letter', `${one.partition}:${one.offset}`],
    ['id', one.id],
    ['key', one.key],
    ['state', one.since === null ? one.state : `${one.state} since ${one.since}`],
    ['reason', [one.reason, one.detail].filter(Boolean).join(': ')],
    ['attempts', `${one.attempts}, ${one.earlierAttempts} before it was replayed (${one.replays} times)`],
    ['same key', `${one.behind.dead} dead, ${one.behind.waiting} waiting`],
    ['value', JSON.stringify(one.value)],
    ...(one.edits > 0 ? [['original', JSON.stringify(one.original)] as const] : []),
  ]
  return [
    facts.map(([name, value]) => `${name.padEnd(9)} ${value ?? '-'}`).join('\n'),
    table(['FAILED', 'ATTEMPT', 'REASON', 'DETAIL'], errors),
    table(['EDITED', 'BY', 'NOTE', 'VALUE'], changes),
  ]
    .filter((part) => part !== '')
    .join('\n\n')
}

async function edit(session: Session, client: Client, path: string, letter: string, options: DeadLettersOptions) {
  const place = `${path}/${letter.replace(':', '/')}`
  const found = await client.request<DeadLetterDetail>('GET', place)
  const value = await readEdited(options.value, found.value)
  const { note } = options
  const body = { value, by: userInfo().username, edits: found.edits, ...(note === undefined ? {} : { note }) }
  const after = await client.request<DeadLetterDetail>('PUT', place, body)
  session.cli.print(
    after.edits === found.edits ? `${letter} is as it was` : `${letter} edited; put it back with --replay ${letter}`,
    after,
  )
}

async function replay({ cli }: Session, client: Client, path: string, letters: string[], options: DeadLettersOptions) {
  const filter = filterOf(options)
  const body = letters.length > 0 ? { letters } : Object.keys(filter).length > 0 ? { filter } : { all: true }
  const answer = await client.request<{ replayed: number; remaining: number; notDead: string[] }>(
    'POST',
    `${path}/replay`,
    body,
  )
  const { replayed, remaining, notDead } = answer
  cli.print(`${replayed} replayed, ${remaining} still dead`, answer)
  if (notDead.length === 0) return undefined
  throw new SluiceError('NOT_FOUND', `${notDead.join(', ')}: no dead letter, or not any more`)
}

function filterOf({ reason, key, since }: DeadLettersOptions): Record<string, string> {
  return Object.fromEntries(
    Object.entries({ reason, key, since }).filter(([, value]) => value !== undefined),
  ) as Record<string, string>
}

function parseLetter(text: string): string {
  if (/^\d{1,3}:\d{1,15}$/.test(text)) return text
  throw new InvalidArgumentError(`${JSON.stringify(text)} is no letter; the list names them, such as 0:12.`)
}

function parseTime(text: string): string {
  const time = Date.parse(text)
  if (!Number.isNaN(time)) return new Date(time).toISOString()
  throw new InvalidArgumentError('Allowed is a time such as 2026-03-28T12:00:00Z.')
}
