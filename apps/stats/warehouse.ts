import { connection } from 'sluice'

/** The database that has the tables of this app. */
export const warehouse = connection('warehouse', 'postgres')
