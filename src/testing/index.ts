/** What authors' tests import: `import { simulate } from 'sluice/testing'`. */
export { type FakeAnswer, type FakeFetch, fakeFetch } from './fake-fetch.ts'
export type { SimulatedTick } from './plans-of-world.ts'
export type { ClearTasks } from './runs-of-world.ts'
export { simulate } from './simulate.ts'
export type { Defined, FakeProgram, ProgramGiven, SimulateOptions } from './simulate-options.ts'
export type { LogLine, SimulatedTask } from './simulated-run.ts'
export { SimulatedRun } from './simulated-run.ts'
export { type ApprovalReply, SimulatedWorld, type WaitingApproval } from './simulated-world.ts'
