CREATE TABLE `pauses` (
	`daemon_id` text NOT NULL,
	`agent` text NOT NULL,
	`until` integer NOT NULL,
	PRIMARY KEY(`daemon_id`, `agent`)
);
--> statement-breakpoint
CREATE TABLE `tells` (
	`run_id` text NOT NULL,
	`id` integer NOT NULL,
	`by` text NOT NULL,
	`text` text NOT NULL,
	`at` integer NOT NULL,
	PRIMARY KEY(`run_id`, `id`)
);
--> statement-breakpoint
ALTER TABLE `daemons` ADD `start` text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `asked_image` text;--> statement-breakpoint
ALTER TABLE `runs` ADD `handover` text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `fresh` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `fallback` text DEFAULT '[]' NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `steers` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `tokens` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `cost_micro_usd` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
UPDATE `runs` SET `asked_image` = `image` WHERE `state` = 'queued';