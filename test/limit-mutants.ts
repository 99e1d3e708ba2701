/** Wrong decisions on limits: of one node, between nodes, and in line. */
import { inFile, type Mutant } from './mutant.ts'

export const limitMutants: readonly Mutant[] = [
  ...inFile(
    'core/limits.ts',
    ['limits', 'simulation'],
    [
      [
        'tasks start beside those that are over the limit',
        'capacity === undefined || isOver(limit) ||',
        'capacity === undefined ||',
      ],
      [
        'tasks start without what they need',
        'limit.granted - limit.inUse < amount) return false',
        'limit.granted < 0) return false',
      ],
      [
        'what ends gives nothing back',
        '(limit.isRate) continue\n      limit.inUse -= amount',
        '(limit.isRate) continue\n      limit.inUse -= 0',
      ],
      ['anybody overtakes in line', '(!next || before(line, next)) && ', ''],
      ['nobody loses patience', 'if (line.turnedAway < patience)', 'if (line.turnedAway >= 0)'],
      [
        'what waits keeps what was taken away',
        'if (isOver(limit)) this.#giveBack(limit)',
        'if (id === "") this.#giveBack(limit)',
      ],
      ['tokens are used and not told', 'limit.used += amount', 'limit.used += 0'],
      ['what is paused waits on', 'this.forget(owner)\n    this.#paused.set', 'this.#paused.set'],
      [
        'what is forgotten keeps what it collected',
        'this.#uncollect(line)\n      this.#loseInterest',
        'this.#loseInterest',
      ],
      [
        'tokens of who was taken for dead come back',
        'if (limit.isRate && limit.granted > 0) Object',
        'if (limit.granted < 0) Object',
      ],
      ['who has waited stands behind who comes', 'if (sponsor) this.#stir(sponsor)\n        if', 'if'],
    ],
  ),
  ...inFile(
    'core/limit-exchange.ts',
    ['limit-exchange', 'limits', 'simulation'],
    [
      ['more is granted than there is', 'Math.floor(this.#free / wish.amount)', 'Math.ceil(this.#free / wish.amount)'],
      [
        'a large wish is passed over',
        'if (fitting <= 0) return',
        'if (fitting <= 0) {\n        seat.line.shift()\n        continue\n      }',
      ],
      ['used tokens come back', '+ mine.amount - keep - used }', '+ mine.amount - keep }'],
      ['a bucket fills over its burst', 'Math.min(most, bucket.level + gained)', 'bucket.level + gained'],
      ['tokens of the dead come back', 'heldBy(holdings) + lapsed', 'heldBy(holdings)'],
      [
        'who came last is the first',
        'isBefore(seat.line[0], first.line[0]!)',
        'isBefore(first.line[0]!, seat.line[0])',
      ],
      ['a node keeps what it does not hold', 'Math.min(mine.amount, word.keep)', 'word.keep'],
      ['nobody hears of what was granted to him', 'tell: granted || ', 'tell: '],
    ],
  ),
  ...inFile(
    'core/limit-lines.ts',
    ['limit-lines', 'limits', 'simulation'],
    [
      [
        'nothing of what was taken away is given back',
        'if (limit.isRate || isOver(limit)) return',
        'if (limit.isRate) return',
      ],
      [
        'runners of one sort overtake',
        'first !== undefined && before(first, line)',
        'first !== undefined && before(line, first)',
      ],
      ['nodes do not yield to one another', 'ahead !== undefined && isFirst', 'ahead === null && isFirst'],
      [
        'what was used since the word is granted twice',
        'Math.max(0, answer.amount - (limit.used - used))',
        'answer.amount',
      ],
      [
        'who could never have it holds up all',
        'if (!first || amountOf(first, limit.id) <= (limit.capacity ?? 0)) return first',
        'return first',
      ],
    ],
  ),
]
