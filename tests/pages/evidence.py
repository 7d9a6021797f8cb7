"""The evidence: for each row of docs/differences.md and docs/security.md, the tests that show what it says.

A key is the first cell of a row, or the bold beginning of a point, as the page has it.
"""

from __future__ import annotations

from collections.abc import Mapping

DIFFERENCES: Mapping[str, tuple[str, ...]] = {
    "`str(event)` is `repr(event)`.": ("test_the_str_of_an_ending_is_one_line_for_people",),
    "A repr shows text from the server as it is.": (
        "test_a_repr_escapes_quotes_and_control_characters",
    ),
    "`Response.get_list` keeps empty elements.": ("test_get_list_leaves_out_empty_elements",),
    "`Response.get` takes a str.": ("test_get_ignores_case_and_has_a_default",),
    "`Response.http_ver` is the first word of whatever was received.": (
        "test_a_first_line_that_is_not_a_status_line_gives_no_status",
    ),
    "`connect(session_class, poll, …)`": (
        "test_lomonds_parameters_keep_their_order_and_new_ones_are_keywords",
    ),
    "A redirect is reported as Rejected.": (
        "test_each_kind_is_followed_with_a_get",
        "test_fewer_are_followed_if_told_so",
    ),
    "Every parameter of the constructor becomes an attribute of the same name.": (
        "test_parameters_are_not_attributes_of_the_same_name",
    ),
    "`is_active` is True on a fresh object and after a failed attempt.": (
        "test_is_active_means_that_messages_can_be_sent",
    ),
    "`state` has mutable fields, and `session`, `stream`, `key`, `feed`, `reset` and so on can be reached.": (
        "test_at_each_event",
    ),
    "`ping_timeout` is None by default, which means never.": (
        "test_the_automatic_ping_timeout_is_twice_the_rate",
    ),
    "Only a pong is a sign of life.": (
        "test_any_received_byte_is_a_sign_of_life",
    ),
    "`graceful` is True after a refusal, and when the server drops TCP without a Close frame.": (
        "test_the_upgrade_is_refused",
        "test_client_closes_and_the_server_drops_tcp_without_echo_is_not_graceful",
    ),
    "Close code 1014 is refused; 5000 and above are accepted.": (
        "test_received_close_codes",
        "test_5000_and_more_are_invalid",
    ),
    "`send_json(compress=…)` and `send_json(encoder=…)` set fields of the JSON object.": (
        "test_an_object_or_keywords",
    ),
    "`send_json` sends NaN and infinity, which JSON does not have.": (
        "test_what_json_does_not_have_is_refused",
        "test_the_encoder_of_a_call_decides",
    ),
    "Events accept new attributes.": (
        "test_there_is_no_room_for_misspelt_attributes",
    ),
    "`with` drops TCP at the end of the block.": (
        "test_inside_a_loop_the_closing_handshake_goes_on",
    ),
    "`persist` continues after `close()`.": (
        "test_close_while_open_ends_it_after_the_closing_handshake",
    ),
    "Messages of any size are received.": (
        "test_a_declared_length_is_refused_before_its_payload",
    ),
    "An invalid URL, header or option shows late, or never.": (
        "test_a_wrong_url_is_refused_at_construction",
        "test_a_wrong_option_is_refused_at_construction",
    ),
    "The logger is called `lomond`.": (
        "test_by_break",
    ),
    "The trace records `connect_start`, `tls_wrapped`, `handshake_rejected` and `socket_send`.": (
        "test_each_stage_has_lomonds_fields",
        "test_every_record_says_where_when_in_which_thread_and_on_which_connection",
    ),
    "Python 2.7 and 3.3 or later; depends on six.": (
        "test_install_by_pip",
    ),
    "Disconnected has `reason` and `graceful`.": (
        "test_disconnected_says_who_ended_it_and_with_which_codes",
    ),
    "ConnectFail and Rejected have `reason`.": (
        "test_no_address_accepts",
        "test_a_failure_is_reported_as_documented",
    ),
    "Ready has `response`, `protocol` and `extensions`.": (
        "test_ready_has_them_too_and_whom_the_connection_leads_to",
        "test_protocol_cipher_and_certificate_are_told_while_there_is_a_connection",
    ),
    "Pong has `data`.": (
        "test_send_ping_and_send_pong_any_time",
    ),
    "`Rejected.response` has the head.": (
        "test_a_refusal_has_its_body",
    ),
    "`add_header` takes bytes.": (
        "test_add_header_takes_bytes_as_lomond_does_and_str",
    ),
    "`ssl_cafile` is a str.": (
        "test_construction_accepts_every_option_at_once",
    ),
    "A send that the network does not take blocks.": (
        "test_sends_return_at_once_until_the_queue_is_full",
    ),
    "`wsaccel` validates UTF-8.": (
        "test_wsaccel_used_when_there",
    ),
    "Iterating starts no thread.": (
        "test_in_a_whole_life",
        "test_a_name_is_looked_up_in_one",
    ),
    "If both sides close at once, Closed arrives.": (
        "test_both_close_at_once",
        "test_client_closes_while_the_servers_close_frame_waits_to_be_handled",
    ),
    "Q1": (
        "test_server_accepts_tcp_and_says_nothing",
        "test_silence_ends_with_open_timeout",
    ),
    "Q2": (
        "test_with_ipv6_dead_it_opens_within_400_ms_more_than_over_ipv4_alone",
        "test_many_dead_addresses_share_the_time_that_is_left",
        "test_a_hung_look_up_ends_when_cancelled",
        "test_cancelling_ends_it_at_once",
    ),
    "Q3": (
        "test_tls_fails_on_a_direct_connection",
        "test_a_refused_port",
        "test_an_expired_certificate",
    ),
    "Q4": (
        "test_a_wrong_url_is_refused_at_construction",
        "test_http_and_https_stand_for_ws_and_wss",
    ),
    "Q5": (
        "test_the_host_has_the_form_of_the_rfc",
    ),
    "Q6": (
        "test_a_line_break_is_refused_in_name_and_value_and_the_value_not_repeated",
        "test_a_users_header_replaces_a_built_in_one",
        "test_a_header_of_the_upgrade_is_refused",
    ),
    "Q7": (
        "test_credentials_of_the_url_authenticate_and_show_nowhere",
        "test_whatever_becomes_of_the_attempt",
    ),
    "Q8": (
        "test_row_4_a_wrong_accept",
        "test_another_subprotocol_is_refused",
        "test_connection_must_name_upgrade",
        "test_upgrade_is_a_list_without_case",
        "test_an_extension_that_was_not_offered_is_refused",
    ),
    "Q9": (
        "test_a_refusal_has_its_body",
        "test_a_large_body_is_cut",
        "test_the_upgrade_is_refused",
    ),
    "Q10": (
        "test_sending_is_refused_but_while_open_saying_the_state",
        "test_close_before_connecting_does_nothing",
    ),
    "Q11": (
        "test_close_calls_the_attempt_off",
        "test_close_calls_off_an_attempt_to_connect",
    ),
    "Q12": (
        "test_a_send_is_refused",
    ),
    "Q13": (
        "test_force_disconnect_ends_the_loop",
    ),
    "Q14": (
        "test_every_step_in_every_state",
        "test_after_every_kind_of_end_it_is_closed",
    ),
    "Q15": (
        "test_client_closes_and_the_server_drops_tcp_without_echo_is_not_graceful",
    ),
    "Q16": (
        "test_a_protocol_error_that_is_not_critical",
    ),
    "Q17": (
        "test_a_protocol_error_that_is_critical",
        "test_every_code_for_failing_can_be_sent",
    ),
    "Q18": (
        "test_close_refuses_wrong_arguments_before_anything_is_sent",
        "test_a_long_reason_arrives_cut_at_a_character",
    ),
    "Q19": (
        "test_a_ping_that_comes_after_it_is_delivered_and_not_answered",
    ),
    "Q20": (
        "test_threads_that_send_while_another_closes_send_nothing_behind_it",
        "test_ten_threads_that_close_at_once_send_one_frame",
    ),
    "Q21": (
        "test_any_thread_may_send",
    ),
    "Q22": (
        "test_polls_pings_and_close_go_on",
        "test_sends_return_at_once_until_the_queue_is_full",
    ),
    "Q23": (
        "test_at_any_event",
        "test_a_thousand_failures_leave_nothing",
    ),
    "Q24": (
        "test_half_a_tls_record_stops_no_timer",
    ),
    "Q25": (
        "test_ping_rate_says_how_often_the_server_is_pinged",
    ),
    "Q26": (
        "test_any_received_byte_is_a_sign_of_life",
        "test_ping_timeout_without_pings_gives_nothing_up",
    ),
    "Q27": (
        "test_each_has_a_payload_of_its_own",
        "test_a_pong_in_advance_answers_nothing_and_has_no_latency",
    ),
    "Q28": (
        "test_a_declared_length_is_refused_before_its_payload",
        "test_the_fragment_that_goes_over_is_refused_at_its_head",
        "test_a_deflate_bomb_is_refused_in_bounded_memory",
    ),
    "Q29": (
        "test_rsv1_on_a_control_frame_is_refused_with_1002",
        "test_rsv1_on_a_continuation_is_refused_with_1002",
    ),
    "Q30": (
        "test_in_a_compressed_message_not_yet_complete",
        "test_behind_a_control_frame",
    ),
    "Q31": (
        "test_a_window_of_8_bits_is_not_usable",
    ),
    "Q32": (
        "test_binary_takes_what_is_bytes_like_and_copies_it",
        "test_an_object_or_keywords",
    ),
    "Q33": (
    ),
    "Q34": (
        "test_dead_names_of_lomond_can_still_be_imported",
        "test_a_refused_port",
    ),
    "Q35": (
        "test_iterating_calls_an_overridden_connect",
    ),
    "Q36": (
        "test_by_break",
        "test_by_an_exception",
        "test_by_closing_the_generator",
    ),
    "Q37": (
        "test_inside_a_loop_the_closing_handshake_goes_on",
    ),
    "Q38": (
        "test_the_proxy_refuses",
        "test_any_2xx_grants_it",
        "test_no_proxy_exempts",
        "test_credentials_go_as_basic_authentication",
        "test_a_wrong_one_is_refused_without_its_credentials",
    ),
    "Q39": (
        "test_a_given_context_is_used_and_never_altered",
    ),
    "Q40": (
        "test_a_cafile_is_added_to_the_systems_store",
        "test_the_tls_context_is_made_once",
    ),
    "Q41": (
        "test_a_lost_connection_is_traced_too",
        "test_the_function_may_send_and_close",
        "test_what_the_function_raises_is_logged_and_changes_nothing",
    ),
    "Q42": (
        "test_close_from_another_thread_ends_the_wait",
        "test_exit_event_is_looked_at_while_open_and_closes_cleanly",
        "test_the_back_off_gives_up",
        "test_it_is_bounded",
        "test_it_never_shortens_it",
        "test_accept_then_drop_goes_on_growing",
        "test_options_of_connect_reach_every_connection",
    ),
    "Q43": (
        "test_a_second_iteration_is_refused_and_the_first_goes_on",
    ),
    "Q44": (
        "test_text_with_braces_and_no_arguments_stays_as_it_is",
    ),
    "Q45": (
        "test_the_agent_says_name_and_version_and_nothing_of_the_machine",
    ),
    "Q46": (
        "test_memory_stays_near_the_message_however_finely_it_comes",
    ),
    "Q47": (
        "test_no_descriptor_is_closed_under_a_sender",
        "test_shutdown_from_another_thread_wakes_the_waiting_one",
    ),
}

SECURITY: Mapping[str, tuple[str, ...]] = {
    "The server's certificate": (
        "test_verification_is_on_unless_told_otherwise",
        "test_a_self_signed_certificate_is_named_so",
        "test_an_unknown_authority_is_named_so",
        "test_an_expired_certificate_is_named_so",
        "test_a_wrong_host_is_named_so",
    ),
    "Before the request": (
        "test_a_certificate_that_is_not_accepted_fails_each_attempt_and_no_request_is_sent",
    ),
    "The TLS version": (
        "test_our_contexts_speak_tls_1_2_at_least",
        "test_a_server_with_only_old_tls_is_named_so",
        "test_a_given_context_is_used_and_never_altered",
    ),
    "Pinned certificates": (
        "test_the_pinned_certificate_is_accepted_any_other_is_not",
        "test_pins_are_looked_at_again",
        "test_a_pin_holds_without_verification_too",
    ),
    "Proxies over TLS": (
        "test_the_certificate_of_an_https_proxy_is_verified",
        "test_a_certificate_inside_is_verified",
    ),
    "The upgrade": (
        "test_row_2_no_upgrade",
        "test_connection_must_name_upgrade",
        "test_row_3_no_accept",
        "test_row_4_a_wrong_accept",
    ),
    "The agreement": (
        "test_a_subprotocol_that_was_not_offered_is_rejected",
        "test_an_extension_that_was_not_offered_is_refused",
    ),
    "Every frame": (
        "test_a_masked_frame_is_refused_with_1002",
        "test_a_reserved_bit_is_refused_with_1002",
        "test_a_reserved_opcode_is_refused_with_1002",
        "test_a_control_frame_over_125_bytes_is_refused_with_1002",
        "test_a_fragmented_control_frame_is_refused_with_1002",
    ),
    "Text": (
        "test_the_first_wrong_byte_is_the_one_that_the_definition_names",
        "test_text_may_not_end_inside_a_character",
        "test_a_close_reason_that_is_no_utf8_is_refused_with_1007",
    ),
    "Your input": (
        "test_a_wrong_url_is_refused_at_construction",
        "test_a_line_break_is_refused_in_name_and_value_and_the_value_not_repeated",
        "test_no_line_break_gets_through_and_no_value_is_repeated",
        "test_a_wrong_option_is_refused_at_construction",
    ),
    "Randomness": (
        "test_a_key_is_16_random_bytes",
        "test_each_frame_has_a_new_key",
        "test_keys_of_the_system_do_not_repeat_soon",
    ),
    "A received message, after decompression": (
        "test_a_declared_length_is_refused_before_its_payload",
        "test_a_deflate_bomb_is_refused_in_bounded_memory",
        "test_memory_stays_near_the_message_however_finely_it_comes",
    ),
    "Bytes of a [stream](streams.md) that wait to be read, if you use `stream_above`; "
    "beyond it lochws stops reading": (
        "test_reading_slowly_pauses_tcp_and_keepalive",
        "test_a_bomb_is_decompressed_in_pieces",
    ),
    "Messages waiting for your handlers; beyond it lochws stops reading": (
        "test_a_server_that_is_too_fast_is_held_back_and_nothing_is_lost",
        "test_small_messages_that_inflate_to_much_are_bounded_too",
    ),
    "Messages waiting to be sent": (
        "test_sends_return_at_once_until_the_queue_is_full",
    ),
    "The head of the server's response, interim responses included": (
        "test_a_head_of_16_kib_passes_and_one_byte_more_is_refused",
        "test_endless_interim_responses_are_refused",
    ),
    "The body of a refusal": (
        "test_a_large_body_is_cut",
    ),
    "The time for reading that body": (
        "test_a_body_that_never_ends_is_not_waited_for",
    ),
    "Redirects followed": (
        "test_ten_are_followed_and_an_eleventh_is_not",
    ),
    "The whole opening: names, proxies, TLS and redirects included": (
        "test_silence_ends_with_open_timeout",
        "test_a_server_that_stalls_tls_fails_the_attempt_in_time_and_is_tried_again",
    ),
    "The server's answer to our Close frame": (
        "test_a_server_that_never_answers_is_left_after_close_timeout",
    ),
    "Time between our pings; a server that stays silent for twice as long after one is given up": (
        "test_the_defaults_are_those_of_the_documentation",
        "test_ping_timeout_ends_a_silent_connection",
    ),
    "Our pings that are remembered until answered": (
        "test_only_so_many_are_remembered",
    ),
    "Cookies in the jar before a server's new ones are left out": (
        "test_new_cookies_beyond_the_limit_are_ignored",
    ),
    "The wait that a server can impose with `Retry-After`": (
        "test_the_bound_is_five_minutes_by_default",
    ),
    "Attempts to obtain a TLS session from a server, which leak memory in CPython; after them one an hour": (
        "test_a_server_that_never_resumes_is_asked_a_few_times_in_one_process",
        "test_an_hour_later_a_server_may_be_asked_once_more",
    ),
    "Credentials": (
        "test_whatever_becomes_of_the_attempt",
        "test_in_the_debug_log_that_trace_true_writes",
        "test_in_what_the_constructor_refuses",
        "test_in_what_functions_give",
    ),
    "The password of a private key": (
        "test_the_key_may_be_in_a_file_of_its_own_with_a_password",
        "test_what_is_wrong_is_refused_by_name",
    ),
    "After a redirect to another origin": (
        "test_another_origin_gets_no_header_but_ours",
        "test_a_redirect_back_home_gets_no_credentials_either",
        "test_another_origin_is_not_shown_it",
        "test_redirect_headers_all_takes_the_users_headers_and_subprotocols_along",
        "test_another_origin_is_offered_no_subprotocol_that_looks_like_a_credential",
    ),
    "Cookies": (
        "test_cookies_are_kept_along_the_way_and_go_where_they_belong",
    ),
    "Headers for a proxy": (
        "test_own_headers_go_to_the_proxy_alone",
    ),
    "A password for a proxy": (
        "test_with_auth_digest_the_password_is_never_sent",
    ),
    "Your machine": (
        "test_the_agent_says_name_and_version_and_nothing_of_the_machine",
    ),
    "**Not secret:** the query of a URL": (
        "test_the_query_of_a_url_is_shown_wherever_the_url_is",
    ),
    "send whatever your handlers have to cope with": (
        "test_the_reason_of_a_close_frame_is_given_as_it_came",
    ),
    "redirect you to another host and port": (
        "test_each_kind_is_followed_with_a_get",
        "test_fewer_are_followed_if_told_so",
    ),
    "keep you waiting and refuse forever": (
        "test_growing_random_waits_and_a_ceiling",
    ),
    "end the connection at any time": (
        "test_unsent_is_what_was_not_taken_whole_oldest_first",
    ),
    "end or hang a thread": (
        "test_the_connection_ends_once_saying_why_and_another_one_opens",
        "test_whatever_many_threads_and_a_bad_server_do_at_once_a_few_things_hold",
    ),
    "fill your memory": (
        "test_a_declared_length_reserves_little_memory",
        "test_a_bomb_in_one_piece_is_refused_in_bounded_memory",
        "test_a_server_that_is_too_fast_is_held_back_and_nothing_is_lost",
        "test_a_flood_of_pings_is_answered_within_bounds",
        "test_of_several_pongs_the_newest_waits",
    ),
    "leave threads or descriptors behind": (
        "test_after_5000_refusals_there_are_as_many_threads_and_descriptors_as_after_the_first",
        "test_a_server_restarted_200_times_leaves_threads_descriptors_and_stack_as_they_were",
    ),
    "starve other connections on the same threads, or hold up senders": (
        "test_a_flood_for_one_does_not_starve_the_other",
        "test_inboxes_take_turns",
        "test_no_turn_takes_long_and_no_byte_is_lost",
        "test_a_flood_on_one_connection_does_not_keep_another_from_its_messages",
    ),
    "redirect you from `wss` to `ws`, or to a Unix socket": (
        "test_from_wss_to_ws_it_is_not",
        "test_what_leads_nowhere_is_a_refusal",
    ),
    "forge lines in your log or control your terminal through ours": (
        "test_nothing_that_a_server_says_is_a_line_of_its_own_in_the_log",
        "test_a_proxys_phrase_is_none_either",
        "test_a_server_cannot_forge_a_line",
        "test_a_server_cannot_turn_the_text_of_a_line_around",
    ),
    "flood your log": (
        "test_a_flood_is_limited_and_what_was_left_out_is_counted",
    ),
    "break the next request or end an attempt by a cookie": (
        "test_a_line_with_control_characters_is_left_out",
        "test_bad_lines_are_tolerated",
    ),
    "answer our pings without having seen them": (
        "test_the_salt_comes_from_the_random_source",
    ),
    "use seconds of processor time by naming a charset": (
        "test_a_charset_that_would_take_seconds_is_not_used",
    ),
    "choose your proxy through a CGI script's `HTTP_PROXY`": (
        "test_http_proxy_in_a_cgi_script_is_a_strangers_header",
    ),
    "**Compression**": (
        "test_the_defaults_are_those_of_the_documentation",
    ),
    "**`ssl_verify=False`**": (
        "test_without_verification_anyone_is_let_in",
    ),
    "**Proxies**": (
        "test_none_is_the_environment",
    ),
    "**Your functions**": (
        "test_invalid_values_fail_before_anything_is_sent",
        "test_what_the_function_raises_is_logged_and_changes_nothing",
    ),
}

#: The limits on the page that no option changes, and the constants that hold them.
CONSTANTS: Mapping[str, str] = {
    "Messages waiting for your handlers; beyond it lochws stops reading":
        "lochws.connection.receiving.INBOX_BYTES",
    "Bytes of a [stream](streams.md) that wait to be read, if you use `stream_above`; "
    "beyond it lochws stops reading": "lochws.connection.incoming.STREAM_BUFFER",
    "The head of the server's response, interim responses included": "lochws.protocol.handshake.MAX_HEAD",
    "The body of a refusal": "lochws.opening.refusal.MAX_BODY",
    "The time for reading that body": "lochws.opening.refusal.BODY_SECONDS",
    "Our pings that are remembered until answered": "lochws.protocol.keepalive.MAX_OUTSTANDING",
    "Cookies in the jar before a server's new ones are left out": "lochws.opening.cookies.MAX_COOKIES",
    "Attempts to obtain a TLS session from a server, which leak memory in CPython; after them one an hour":
        "lochws.transport.sessions.ASKED_AT_ONCE",
}
