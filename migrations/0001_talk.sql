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
--> statement-breakpoint
DROP INDEX `deliveries_pending`;--> statement-breakpoint
CREATE INDEX `deliveries_old` ON `deliveries` (`received_at`);--> statement-breakpoint
CREATE INDEX `deliveries_pending` ON `deliveries` (`received_at`) WHERE state = 'pending';--> statement-breakpoint
ALTER TABLE `pipelines` ADD `adopted` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `pipelines` ADD `held` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `pipelines` ADD `priority` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `pipelines` ADD `done` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `pipelines` ADD `delete_branch` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `reports` ADD `urgent` integer DEFAULT true NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `kind` text DEFAULT 'run' NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `wish` text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `composed` text;--> statement-breakpoint
ALTER TABLE `runs` ADD `thread` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `label` text;--> statement-breakpoint
ALTER TABLE `runs` ADD `comment_hash` text;--> statement-breakpoint
ALTER TABLE `runs` ADD `asked_at` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
UPDATE `runs` SET `composed` = `prompt`, `asked_at` = `created_at`;
