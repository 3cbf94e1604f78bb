-- When the right to watch ends; NULL before the grant. An earlier version of this service grants without it: such a rental
-- does not end.
ALTER TABLE rentals ADD COLUMN expire_time BIGINT;

UPDATE rentals SET expire_time = update_time + 172800000000 WHERE state = 2;
