import { action, connection, endpoint, reply, SqlError, stream, table, topic, workflow, z } from 'sluice'

const warehouse = connection('warehouse', 'postgres')

const ordered = z.object({ id: z.number(), what: z.string(), amount: z.number(), at: z.string() })

export const orders = topic('orders', { schema: ordered, key: (order) => order.what, partitions: 2 })

/** What was ordered, without what it costs. */
export const wishes = topic('wishes', {
  schema: z.object({ what: z.string(), amount: z.number() }),
  key: (wish) => wish.what,
})

const stored = table('shop.orders', {
  schema: ordered.extend({ cents: z.number() }),
  key: 'id',
  recordId: 'record_id',
})

export const keep = stream('keep-orders', {
  from: orders,
  id: (order) => [order.id, order.what],
  steps: (records) =>
    records.step(async function price(order, { connection, reject }) {
      const sql = connection(warehouse)
      const [found] = await sql.query<{ cents: number }>('select cents from shop.prices where what = $1', [order.what])
      return found ? { ...order, cents: found.cents * order.amount } : reject('no price', order.what)
    }),
  to: stored,
})

export const pass = stream('pass-wishes', {
  from: orders,
  id: (order) => order.id,
  steps: (records) => records.step(({ what, amount }) => ({ what, amount })),
  to: wishes,
})

const order = action('order', {
  input: z.object({ count: z.number() }),
  output: z.object({ published: z.number() }),
  async run({ input, publish }) {
    const all = Array.from({ length: input.count }, (_, n) => ({
      id: Math.floor(n / 2),
      what: ['apple', 'pear', 'brick'][n % 3]!,
      amount: n % 10,
      at: '2026-01-31T12:00:00.000Z',
    }))
    const { published } = await publish(orders, all)
    return { published }
  },
})

const raise = action('raise', {
  output: z.object({ pear: z.number(), refused: z.string() }),
  async run({ connection }) {
    const sql = connection(warehouse)
    const pear = await sql.transaction(async (tx) => {
      await tx.query("update shop.prices set cents = cents + 1 where what = 'pear'")
      const [row] = await tx.query<{ cents: number }>("select cents from shop.prices where what = 'pear'")
      return row!.cents
    })
    const refused = await sql.query('select count(*) from sluice.runs').then(
      () => 'no',
      (thrown: unknown) => (thrown instanceof SqlError ? `${thrown.code} ${thrown.sqlState}` : String(thrown)),
    )
    return { pear, refused }
  },
})

export const sell = workflow('sell', {
  params: z.object({ count: z.number().default(60) }),
  define({ params }) {
    order({ count: params.count })
    return raise()
  },
})

export const sold = endpoint('GET /shop/sold', {
  summary: 'What was sold',
  auth: 'open',
  async handle({ connection }) {
    const rows = await connection(warehouse).query(
      'select what, count(*)::int as orders, sum(cents)::int as cents from shop.orders group by what order by what',
    )
    return reply(200, { sold: rows })
  },
})
