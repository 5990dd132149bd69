-- Mixed rows as an agent platform keeps them: about 1.3 GB in all with agents = 200000 and rows = 4000000.
select setseed(0.42);
create extension if not exists pgcrypto;
create table agents(id bigserial primary key, name text not null, config jsonb not null, created_at timestamptz not null default now(), token bytea);
create table agent_data(id bigserial primary key, agent_id bigint not null references agents(id), ts timestamptz not null, kind text, payload jsonb, score double precision, note text);
insert into agents(name,config,token) select 'agent-'||i, jsonb_build_object('model', (array['gpt','claude','gemini','llama'])[1+i%4],'temperature',random(),'tools',jsonb_build_array('search','code',md5(i::text)),'owner',md5((i%977)::text)), gen_random_bytes(64) from generate_series(1,:agents) i;
insert into agent_data(agent_id,ts,kind,payload,score,note) select 1+(random()*(:agents-1))::int, now()-random()*interval '90 days',(array['step','tool','reply','error'])[1+(random()*3)::int], jsonb_build_object('step',i,'trace',md5(random()::text),'tokens',(random()*4000)::int,'status','ok','tool',(array['search','code','browser','sql'])[1+(random()*3)::int]), random(), repeat('lorem ipsum dolor '||(i%1000),(1+random()*3)::int) from generate_series(1,:rows) i;
create index on agent_data(agent_id,ts);
vacuum (freeze, analyze);
checkpoint;
