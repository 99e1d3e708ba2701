import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { SluiceError } from '../../errors.ts'
import { listAll } from '../client.ts'
import { type CommandContext, type CommonOptions, does, withCommonOptions } from '../session.ts'
import { span, table } from '../table.ts'

interface Limit {
  readonly kind: string
  readonly name: string
  readonly slots: number | null
  readonly perMs: number | null
  readonly burst: number | null
  readonly declared: number | null
  readonly setBy: string | null
  readonly inUse: number
  readonly waiting: number
}

interface PoolsOptions extends CommonOptions {
  readonly kind: string
  readonly per?: string
  readonly burst?: string
}

const kinds = ['pool', 'rate', 'key', 'workers', 'runs']

export function addPools(program: Command, context: CommandContext): void {
  const command = program
    .command('pools [action] [name] [slots]')
    .description('list pools and other limits; set NAME SLOTS; reset NAME to what the definitions say')
    .option('--kind <kind>', `what "set" and "reset" are about: ${kinds.join(', ')}`, 'pool')
    .option('--per <time>', 'of a rate: the time in which so many start, such as 1m')
    .option('--burst <count>', 'of a rate: starts at once after a pause')
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, client }, options: PoolsOptions, action?: string, name?: string, slots?: string) => {
      if (action !== undefined && action !== 'set' && action !== 'reset')
        throw new SluiceError(
          'USAGE',
          `${JSON.stringify(action)} is nothing to do with pools; allowed are set and reset`,
        )
      if (!kinds.includes(options.kind))
        throw new SluiceError(
          'USAGE',
          `${JSON.stringify(options.kind)} is no kind of limit; allowed are ${kinds.join(', ')}`,
        )
      if (action === undefined) {
        const items = await listAll<Limit>(await client(), '/api/v1/limits', 10_000)
        cli.print(limitTable(items), { items })
        if (items.length === 0) cli.note('There are no limits')
        return
      }
      if (name === undefined) throw new SluiceError('USAGE', `Name what to ${action}: sluice pools ${action} etl`)
      const path = `/api/v1/limits/${options.kind}/${encodeURIComponent(name)}`
      const api = await client()
      const limit =
        action === 'reset'
          ? await api.request<Limit>('DELETE', path)
          : await api.request<Limit>('PUT', path, settingOf(slots, options))
      cli.print(limitTable([limit]), limit)
    },
  )
}

function settingOf(slots: string | undefined, { per, burst }: PoolsOptions): object {
  return {
    slots: wholeNumber('slots', slots),
    ...(per === undefined ? {} : { per }),
    ...(burst === undefined ? {} : { burst: wholeNumber('--burst', burst) }),
    by: userInfo().username,
  }
}

function wholeNumber(what: string, text: string | undefined): number {
  if (text !== undefined && /^\d{1,7}$/.test(text) && Number(text) <= 1_000_000) return Number(text)
  throw new SluiceError(
    'USAGE',
    `${what} is ${text ?? 'missing'}; allowed are whole numbers from 0 (closed) to 1000000`,
  )
}

function limitTable(limits: readonly Limit[]): string {
  return table(
    ['LIMIT', 'NAME', 'SLOTS', 'IN USE', 'WAITING', 'DECLARED', 'SET BY'],
    limits.map((limit) => [
      ...[limit.kind, limit.name, sizeOf(limit), limit.inUse, limit.waiting, limit.declared, limit.setBy],
    ]),
  )
}

function sizeOf({ slots, perMs, burst }: Limit): string {
  if (slots === null) return 'any'
  if (slots === 0) return 'closed'
  return perMs === null ? String(slots) : `${slots} per ${span(perMs)}, ${burst} at once`
}
