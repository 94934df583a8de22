"""Which tests `make test` runs, and which ones are left to `make test-rest`.

It is decided here, not by a mark at each test, so that one page shows that `make test` covers every
part. A new test is in `make test`, unless it stands in a folder that is sampled: add it to the
sample if it breaks something in a way of its own.
"""

from collections.abc import Iterable
from pathlib import PurePath

import pytest

Tests = dict[str, tuple[str, ...]]
"""By file, below `tests`; no names stand for all that are in it."""

SAMPLED = ("faults", "process")
"""Folders of tests that start services and break something: a sample of them is in `make test`."""

SAMPLE: dict[str, Tests] = {
    "a kill": {
        "process/test_kill.py": (
            "test_what_was_stored_and_not_answered_is_a_duplicate_when_it_comes_again",
        ),
        "process/test_two_processes.py": ("test_store_is_free_once_its_holder_was_killed",),
    },
    "a lost answer": {
        "faults/test_lost_answers.py": (
            "test_retry_after_a_lost_answer_is_a_duplicate_of_the_same_event",
            "test_strict_submission_that_was_refused_unheard_is_refused_again",
        ),
    },
    "a proof": {
        "faults/test_prove.py": (
            "test_people_are_told_the_seed_and_the_verdict",
            "test_what_is_broken_on_purpose_is_caught",
            "test_seed_repeats_what_is_sent_and_where_it_is_killed",
            "test_what_cannot_be_proved_is_said",
            "test_nothing_goes_on_when_it_is_interrupted",
        ),
        "faults/test_prove_without_means.py": (
            "test_too_few_files_are_said_before_anything_is_proved",
        ),
        "faults/test_reckoning.py": (),
        "process/test_prover_signals.py": (),
    },
    "a full disk": {
        "faults/test_full_disk.py": (
            "test_full_disk_is_answered_503_until_there_is_room_without_a_restart",
        ),
    },
    "a disk that fails": {
        "process/test_failing_disk.py": (
            "test_failed_write_is_answered_503_until_the_disk_is_well_again",
        ),
        "faults/test_io_errors.py": (
            "test_while_the_disk_fails_nothing_is_acknowledged_and_afterwards_all_is_well",
        ),
    },
    "a sync that fails": {
        "faults/test_fsync.py": (
            "test_answer_is_sent_once_the_fsync_of_its_commit_has_ended",
            "test_after_a_failure_nothing_is_acknowledged_before_a_checkpoint_is_on_disk",
            "test_store_that_goes_on_after_a_failure_is_found_out",
        ),
        "faults/test_failed_sync.py": (
            "test_first_start_whose_sync_fails_is_made_good_by_the_next_one",
        ),
    },
    "a slow disk": {
        "faults/test_slow_disk.py": (
            "test_service_is_not_ready_while_a_commit_hangs_and_answers_once_it_is_done",
        ),
    },
    "a damaged log": {
        "faults/test_damaged_log.py": (
            "test_damage_before_later_commits_stops_the_start_until_the_loss_is_accepted",
            "test_store_that_trusts_its_log_loses_what_was_answered_in_silence",
            "test_torn_end_costs_what_was_under_way_alone",
            "test_log_without_its_database_stops_the_start_and_is_left_alone",
        ),
        "faults/test_found_in_a_log.py": (
            "test_flipped_bit_is_damage_unless_it_is_in_the_last_transaction",
            "test_torn_tail_of_any_length_is_no_damage",
        ),
        "faults/test_log_written_again.py": (),
        "faults/test_missing_log.py": (
            "test_log_that_was_lost_stops_the_start_until_the_loss_is_accepted",
            "test_file_is_marked_from_the_start_to_a_clean_close",
            "test_copy_is_not_marked_and_starts_by_itself",
            "test_start_that_fails_in_sqlite_once_the_file_is_marked_needs_no_repair",
            "test_mark_that_cannot_be_cleared_keeps_the_log",
            "test_log_that_a_backup_has_let_grow_is_short_after_the_next_start",
        ),
        "faults/test_told_of_a_damaged_log.py": (),
    },
    "a power cut": {
        "faults/test_power_cut.py": (
            "test_what_was_answered_survives_a_power_cut_at_a_few_moments",
            "test_store_that_is_broken_on_purpose_is_found_out",
        ),
        "faults/test_simulated_disk.py": (),
    },
    "reading alone": {
        "faults/test_read_only.py": (),
        "faults/test_read_only_disk.py": (
            "test_log_that_cannot_be_read_there_is_said_to_be_left_out",
        ),
    },
    "a backup": {
        "faults/test_backup.py": (
            "test_what_the_docs_say_backs_up_and_restores",
            "test_backup_of_a_killed_service_holds_what_is_in_the_log_alone",
            "test_backup_without_the_log_is_found_out",
            "test_backup_without_room_says_so_and_leaves_nothing",
        ),
    },
    "more than it can take": {
        "faults/test_overload.py": (
            "test_publishers_who_are_too_fast_are_told_to_wait_in_bounded_memory",
        ),
    },
    "a clock that jumps": {
        "faults/test_clock.py": ("test_event_that_comes_again_is_a_duplicate_whatever_the_year",),
    },
    "a stop": {
        "process/test_stopping.py": (
            "test_stopped_under_load_it_has_stored_all_that_it_answered",
            "test_idle_service_stops_without_waiting_for_idle_connections",
            "test_second_signal_ends_at_once",
        ),
        "process/test_stopping_streams.py": ("test_open_streams_do_not_keep_the_service",),
    },
    "a start": {
        "process/test_starting.py": (
            "test_while_its_store_is_opened_it_is_alive_and_says_what_it_does",
            "test_start_that_is_asked_to_stop_ends_at_once",
            "test_start_that_is_asked_to_stop_before_there_is_an_event_loop_ends_at_once",
            "test_hangup_ends_nothing_and_reads_the_level_of_the_log_again",
            "test_hangups_in_the_last_moments_of_a_stop_do_not_change_its_status",
        ),
        "process/test_handed_over.py": (
            "test_all_sockets_are_named_and_that_one_is_open_to_others",
            "test_start_that_takes_long_cuts_nobody_off",
        ),
    },
    "a certificate": {
        "process/test_tls.py": (
            "test_events_are_stored_and_commands_find_the_service",
            "test_hangup_takes_a_new_certificate_while_connections_go_on",
        ),
    },
    "the watchdog": {
        "process/test_watchdog.py": (),
    },
    "two processes": {
        "process/test_two_processes.py": (
            "test_second_process_on_the_store_says_who_holds_it",
            "test_hard_link_is_no_way_around_the_lock",
        ),
    },
    "a closed folder": {
        "process/test_closed_folder.py": ("test_store_in_a_closed_folder_is_said",),
    },
    "a new stage": {
        "process/test_new_stage.py": ("test_new_stage_is_green_and_serves_as_it_is_written",),
    },
    "a stranger's stage": {
        "process/test_outside_stage.py": (
            "test_installed_stage_runs_with_its_table_and_what_it_filters_stays_new",
            "test_missing_stage_stops_the_start_and_lists_what_is_installed",
            "test_stage_that_raises_something_unusual_fails_only_its_own_submission",
        ),
    },
}
"""By what happens to the service. Of a test that is named, the first case is in `make test`."""

LONG: Tests = {
    "client/test_client.py": ("test_lost_connection_and_time_out_are_told_apart",),
    "contracts/test_damaged_blocks.py": (
        "test_no_flipped_bit_in_what_sqlite_keeps_of_a_block_makes_its_events_new",
    ),
    "contracts/test_random_flips.py": (
        "test_no_bit_flipped_in_a_table_is_silent",
        "test_no_bit_flipped_anywhere_is_silent",
    ),
    "decoding/test_read_at_once.py": (
        "test_read_at_once_or_one_by_one",
        "test_cloud_events_are_taken_as_by_the_slow_look",
    ),
    "deploy/test_nginx.py": (),
    "http/test_cloud_events_sdks.py": (
        "test_events_of_the_javascript_sdk_are_the_same_in_every_mode",
    ),
    "http/test_odd_bytes.py": (
        "test_value_of_any_header",
        "test_value_of_any_argument",
        "test_any_path",
    ),
    "http/test_quarantine.py": ("test_no_batch_is_so_large_that_quarantine_outgrows_its_bound",),
    "http/test_schemathesis.py": (),
    "loadgen/test_bench_command.py": ("test_limits_ours_and_the_naive_design_are_measured",),
    "model/test_against_a_dictionary.py": (),
    "simulation/test_simulation.py": ("test_many_histories_keep_every_promise",),
    "test_broken_builds.py": (
        "test_broken_build_is_caught_by_the_simulation",
        "test_broken_build_is_caught_by_a_test",
        "test_broken_build_is_caught_by_the_proof",
    ),
    "test_left_open.py": (),
    "test_package.py": (
        "test_commands_are_there_and_say_what_they_lack",
        "test_installed_service_does_what_the_page_of_the_package_shows",
    ),
}
"""Tests of the other folders that take long, or install something."""

ALONE: Tests = {
    "decoding/test_linear.py": (),
    "faults/test_hostile_clients.py": (),
    "faults/test_slow_disk.py": (
        "test_slow_disk_gathers_larger_batches_and_everybody_is_answered",
    ),
    "http/test_hostile_text.py": ("test_time_to_read_grows_with_the_length_only",),
    "http/test_large_input.py": (),
    "http/test_turns.py": (),
    "http/test_fast_response.py": ("test_who_never_reads_answers_is_answered_no_further",),
    "http/test_many_conflicts.py": (),
    "http/test_slow_readers.py": (),
    "loadgen/test_bench_load.py": (),
    "pipeline/test_time_limit.py": ("test_time_is_up_after_the_first_wait",),
    "loadgen/test_loadgen_command.py": ("test_honest_trouble_is_survived",),
}
"""Tests that measure or race the clock; they are in the rest, where nothing runs beside them."""


def mark(items: Iterable[pytest.Item], tests: PurePath) -> None:
    """Mark what `make test` leaves out; all are below the folder `tests`."""
    seen: set[tuple[str, str]] = set()
    for item in items:
        file = item.path.relative_to(tests).as_posix()
        name = item.nodeid.split("::")[1].partition("[")[0]
        is_first = (file, name) not in seen
        seen.add((file, name))
        if _has(ALONE, file, name):
            item.add_marker("alone")
            item.add_marker("rest")
        elif _has(LONG, file, name) or not _is_sampled(file, name, is_first):
            item.add_marker("rest")


def _has(tests: Tests, file: str, name: str) -> bool:
    return file in tests and (not tests[file] or name in tests[file])


def _is_sampled(file: str, name: str, is_first: bool) -> bool:
    """Whether it is in the sample, if there is one of its folder."""
    if file.partition("/")[0] not in SAMPLED:
        return True
    parts = [tests for tests in SAMPLE.values() if _has(tests, file, name)]
    return any(is_first or not tests[file] for tests in parts)
