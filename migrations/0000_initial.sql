CREATE TABLE `check_runs` (
	`run_id` text NOT NULL,
	`sha` text NOT NULL,
	`remote_id` integer,
	`tried` integer DEFAULT false NOT NULL,
	`completed` integer DEFAULT false NOT NULL,
	`written` text DEFAULT '' NOT NULL,
	PRIMARY KEY(`run_id`, `sha`)
);
--> statement-breakpoint
CREATE TABLE `daemons` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`token_hash` text NOT NULL,
	`account` text,
	`version` text,
	`slots` integer DEFAULT 0 NOT NULL,
	`repositories` text NOT NULL,
	`agents` text NOT NULL,
	`start` text DEFAULT '' NOT NULL,
	`seen_at` integer,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `daemons_name_unique` ON `daemons` (`name`);--> statement-breakpoint
CREATE UNIQUE INDEX `daemons_token_hash_unique` ON `daemons` (`token_hash`);--> statement-breakpoint
CREATE TABLE `deliveries` (
	`guid` text PRIMARY KEY NOT NULL,
	`event` text NOT NULL,
	`payload` text NOT NULL,
	`repository_id` integer,
	`thread` integer,
	`branch` text,
	`express` integer DEFAULT false NOT NULL,
	`state` text NOT NULL,
	`attempts` integer DEFAULT 0 NOT NULL,
	`refusals` integer DEFAULT 0 NOT NULL,
	`refused_since` integer,
	`error` text,
	`received_at` integer NOT NULL,
	`due_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `deliveries_pending` ON `deliveries` (`received_at`) WHERE state = 'pending';--> statement-breakpoint
CREATE INDEX `deliveries_failed` ON `deliveries` (`due_at`) WHERE state = 'failed';--> statement-breakpoint
CREATE INDEX `deliveries_old` ON `deliveries` (`received_at`);--> statement-breakpoint
CREATE TABLE `events` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`run_id` text NOT NULL,
	`attempt` integer NOT NULL,
	`seq` integer NOT NULL,
	`at` integer NOT NULL,
	`type` text NOT NULL,
	`data` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `events_number` ON `events` (`run_id`,`attempt`,`seq`);--> statement-breakpoint
CREATE TABLE `intents` (
	`key` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`repository` text NOT NULL,
	`issue` integer,
	`sender` text NOT NULL,
	`outcome` text NOT NULL,
	`request` text NOT NULL,
	`reply` text,
	`run_id` text,
	`said_at` integer,
	`comment_id` integer,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `intents_thread` ON `intents` (`repository`,`issue`,`at`);--> statement-breakpoint
CREATE INDEX `intents_run` ON `intents` (`run_id`);--> statement-breakpoint
CREATE INDEX `intents_recent` ON `intents` (`at`);--> statement-breakpoint
CREATE TABLE `leases` (
	`run_id` text PRIMARY KEY NOT NULL,
	`attempt` integer NOT NULL,
	`daemon_id` text NOT NULL,
	`claim_key` text NOT NULL,
	`expires_at` integer NOT NULL,
	`cancel` integer DEFAULT false NOT NULL
);
--> statement-breakpoint
CREATE INDEX `leases_end` ON `leases` (`expires_at`);--> statement-breakpoint
CREATE TABLE `marks` (
	`name` text PRIMARY KEY NOT NULL,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `messages` (
	`run_id` text NOT NULL,
	`id` integer NOT NULL,
	`by` text NOT NULL,
	`text` text NOT NULL,
	`at` integer NOT NULL,
	PRIMARY KEY(`run_id`, `id`)
);
--> statement-breakpoint
CREATE TABLE `pauses` (
	`daemon_id` text NOT NULL,
	`agent` text NOT NULL,
	`until` integer NOT NULL,
	`code` text NOT NULL,
	PRIMARY KEY(`daemon_id`, `agent`)
);
--> statement-breakpoint
CREATE TABLE `pipeline_events` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`pipeline_id` text NOT NULL,
	`at` integer NOT NULL,
	`type` text NOT NULL,
	`data` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `pipeline_events_of` ON `pipeline_events` (`pipeline_id`,`id`);--> statement-breakpoint
CREATE TABLE `pipelines` (
	`id` text PRIMARY KEY NOT NULL,
	`workspace` integer NOT NULL,
	`repository` text NOT NULL,
	`repository_id` integer NOT NULL,
	`issue` integer NOT NULL,
	`title` text NOT NULL,
	`branch` text NOT NULL,
	`base_branch` text NOT NULL,
	`base_sha` text,
	`opening_sha` text,
	`branch_ready` integer DEFAULT false NOT NULL,
	`head_sha` text,
	`pull_request` text NOT NULL,
	`pull_number` integer,
	`pull_node_id` text,
	`pull_state` text,
	`state` text NOT NULL,
	`adopted` integer DEFAULT false NOT NULL,
	`held` integer DEFAULT false NOT NULL,
	`priority` integer DEFAULT 0 NOT NULL,
	`done` integer DEFAULT false NOT NULL,
	`delete_branch` integer DEFAULT false NOT NULL,
	`failed_ci` text,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `pipelines_branch` ON `pipelines` (`repository_id`,`branch`);--> statement-breakpoint
CREATE INDEX `pipelines_issue` ON `pipelines` (`repository_id`,`issue`);--> statement-breakpoint
CREATE INDEX `pipelines_pull` ON `pipelines` (`repository_id`,`pull_number`);--> statement-breakpoint
CREATE INDEX `pipelines_recent` ON `pipelines` (`created_at`);--> statement-breakpoint
CREATE TABLE `reports` (
	`kind` text NOT NULL,
	`subject` text NOT NULL,
	`workspace` integer NOT NULL,
	`requested` integer NOT NULL,
	`written` integer DEFAULT 0 NOT NULL,
	`tried_at` integer,
	`data` text,
	`attempts` integer DEFAULT 0 NOT NULL,
	`refusals` integer DEFAULT 0 NOT NULL,
	`refused_since` integer,
	`due_at` integer NOT NULL,
	`urgent` integer DEFAULT true NOT NULL,
	`error` text,
	PRIMARY KEY(`kind`, `subject`)
);
--> statement-breakpoint
CREATE INDEX `reports_due` ON `reports` (`workspace`,`due_at`) WHERE written < requested;--> statement-breakpoint
CREATE TABLE `runs` (
	`id` text PRIMARY KEY NOT NULL,
	`pipeline_id` text NOT NULL,
	`workspace` integer NOT NULL,
	`repository` text NOT NULL,
	`number` integer NOT NULL,
	`state` text NOT NULL,
	`stage` text,
	`attempt` integer DEFAULT 0 NOT NULL,
	`kind` text DEFAULT 'run' NOT NULL,
	`request_hash` text,
	`asked_image` text,
	`fresh` integer DEFAULT false NOT NULL,
	`fallback` text DEFAULT '[]' NOT NULL,
	`accepts_messages` integer DEFAULT false NOT NULL,
	`tokens` integer DEFAULT 0 NOT NULL,
	`cost_micro_usd` integer DEFAULT 0 NOT NULL,
	`thread` integer NOT NULL,
	`label` text,
	`requested_by` text NOT NULL,
	`origin` text NOT NULL,
	`agent` text,
	`image` text,
	`daemon` text,
	`declined_by` text DEFAULT '[]' NOT NULL,
	`priority` integer DEFAULT 0 NOT NULL,
	`failure_code` text,
	`failure_detail` text,
	`cancelled_by` text,
	`changed` integer DEFAULT false NOT NULL,
	`commits` integer DEFAULT 0 NOT NULL,
	`last_seq` integer DEFAULT 0 NOT NULL,
	`comment_id` integer,
	`comment_deleted` integer DEFAULT false NOT NULL,
	`comment_hash` text,
	`head_sha` text,
	`asked_at` integer NOT NULL,
	`created_at` integer NOT NULL,
	`started_at` integer,
	`ended_at` integer,
	`prompt` text NOT NULL,
	`composed` text,
	`handoff` text DEFAULT '' NOT NULL,
	FOREIGN KEY (`pipeline_id`) REFERENCES `pipelines`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `runs_number` ON `runs` (`pipeline_id`,`number`);--> statement-breakpoint
CREATE INDEX `runs_queue` ON `runs` (`priority`,`created_at`) WHERE state = 'queued';--> statement-breakpoint
CREATE INDEX `runs_live` ON `runs` (`pipeline_id`) WHERE state in ('claimed', 'running');--> statement-breakpoint
CREATE INDEX `runs_recent` ON `runs` (`created_at`);--> statement-breakpoint
CREATE INDEX `runs_ended` ON `runs` (`ended_at`);--> statement-breakpoint
CREATE TABLE `schedules` (
	`repository_id` integer PRIMARY KEY NOT NULL,
	`workspace` integer NOT NULL,
	`repository` text NOT NULL,
	`default_branch` text NOT NULL,
	`sources` text NOT NULL,
	`looked_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `workspaces` (
	`id` integer PRIMARY KEY NOT NULL,
	`account` text NOT NULL,
	`state` text NOT NULL
);
