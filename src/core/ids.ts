/**
 * Ids of runs and tasks are UUIDv7 (RFC 9562). A run's id has its last 35 bits zero; a task's id is its run's id with
 * those bits naming node and map index, each plus one (15 and 20 bits). So a task is found by its id without an index of its own,
 * and all tasks of a run lie in one range of ids. 39 random bits a millisecond remain for the run.
 */
import { SluiceError } from '../errors.ts'

const low35 = (1n << 35n) - 1n
const pattern = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** Most nodes a workflow can have, and most tasks of a mapped node. */
export const maxNode = (1 << 15) - 2
export const maxMapIndex = (1 << 20) - 2

/** `random` gives a number in [0, 1). */
export function newRunId(nowMs: number, random: () => number): string {
  const bits = BigInt(Math.floor(random() * 2 ** 39))
  const value =
    (BigInt(nowMs) << 80n) | (0x7n << 76n) | ((bits >> 27n) << 64n) | (0b10n << 62n) | ((bits & 0x7ffffffn) << 35n)
  return format(value)
}

/** `mapIndex` is -1 for a task that is not mapped. */
export function taskIdOf(runId: string, node: number, mapIndex: number): string {
  // Only the last 35 bits change: the last 9 hex digits, the first of which keeps its top bit.
  const low = (node + 1) * 2 ** 20 + (mapIndex + 1)
  const kept = Number.parseInt(runId[27] as string, 16) & 8
  const head = (kept + Math.floor(low / 2 ** 32)).toString(16)
  return runId.slice(0, 27) + head + (low % 2 ** 32).toString(16).padStart(8, '0')
}

/** The run that a task of this id would belong to; of a run's own id, that id. The id is not checked. */
export function runIdOf(taskId: string): string {
  const kept = Number.parseInt(taskId[27] as string, 16) & 8
  return `${taskId.slice(0, 27)}${kept.toString(16)}00000000`
}

export interface TaskKey {
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
}

/** @throws SluiceError NOT_FOUND when the text is no id of a task. */
export function taskKeyOf(taskId: string): TaskKey {
  if (!pattern.test(taskId))
    throw new SluiceError('NOT_FOUND', `there is no task ${JSON.stringify(taskId.slice(0, 80))}`)
  const value = BigInt(`0x${taskId.replaceAll('-', '')}`)
  const low = Number(value & low35)
  const node = Math.floor(low / 2 ** 20) - 1
  if (node < 0) throw new SluiceError('NOT_FOUND', `${taskId} is the id of a run, not of a task`)
  return { runId: format(value & ~low35), node, mapIndex: (low % 2 ** 20) - 1 }
}

/** The first and last id in the range of a run's tasks. */
export function taskIdRange(runId: string): readonly [string, string] {
  return [runId, format(BigInt(`0x${runId.replaceAll('-', '')}`) | low35)]
}

export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(text)
}

function format(value: bigint): string {
  const hex = value.toString(16).padStart(32, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
