-- What the load tests of issue "LLM load tests" add: more about each request, and the server's own metrics.
ALTER TABLE llm_requests ADD COLUMN process SMALLINT;
ALTER TABLE llm_requests ADD COLUMN session INTEGER;
ALTER TABLE llm_requests ADD COLUMN turn SMALLINT;
ALTER TABLE llm_requests ADD COLUMN prefix_group INTEGER;
ALTER TABLE llm_requests ADD COLUMN ttfo_ns BIGINT;
ALTER TABLE llm_requests ADD COLUMN asked_prompt_tokens INTEGER;
ALTER TABLE llm_requests ADD COLUMN asked_output_tokens INTEGER;
ALTER TABLE llm_requests ADD COLUMN tokenizer_prompt_tokens INTEGER;
ALTER TABLE llm_requests ADD COLUMN tokenizer_output_tokens INTEGER;
ALTER TABLE llm_requests ADD COLUMN cached_prompt_tokens INTEGER;
CREATE TABLE server_samples (run_id UUID NOT NULL, t_ns BIGINT NOT NULL, source VARCHAR NOT NULL, phase VARCHAR,
  requests_running FLOAT, requests_waiting FLOAT, kv_cache_used_pct FLOAT, preemptions BIGINT,
  prefix_query_tokens BIGINT, prefix_hit_tokens BIGINT, queue_time_ns BIGINT, queue_count BIGINT,
  prompt_tokens BIGINT, output_tokens BIGINT, requests_done BIGINT, iteration_ns BIGINT, batch_size FLOAT,
  scrape_ns BIGINT);
