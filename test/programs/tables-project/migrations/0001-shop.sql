create schema shop;

create table shop.prices (
  what text primary key,
  cents int not null
);
insert into shop.prices values ('apple', 30), ('pear', 40);

create table shop.orders (
  seq bigint generated always as identity,
  id bigint primary key,
  what text not null references shop.prices,
  amount int not null check (amount > 0),
  cents int not null,
  at timestamptz not null,
  record_id text not null
);
