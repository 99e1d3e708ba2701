import { expect, it } from 'vitest'
import { PixelBudget } from './pixel-budget.ts'

it('lets in what fits, in order, and the oversize alone', async () => {
  const budget = new PixelBudget(10)
  const entered: number[] = []
  const enter = async (pixels: number) => {
    const leave = await budget.enter(pixels)
    entered.push(pixels)
    return leave
  }
  const [six, huge, two] = [enter(6), enter(50), enter(2)]
  const leaveSix = await six
  expect(entered).toEqual([6])
  leaveSix()
  const leaveHuge = await huge
  expect(entered).toEqual([6, 50])
  expect(budget.used).toBe(50)
  leaveHuge()
  ;(await two)()
  expect(entered).toEqual([6, 50, 2])
  expect(budget.used).toBe(0)
})
